"""Tensors by name from a file of weights, however a training script wrapped them. Nothing in a file is executed."""

from __future__ import annotations

import argparse
import pathlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from spaces.contract.error_lines import first_line

# under which training scripts keep a state dict; averaged weights first, for these were measured
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "module",
)
# of data-parallel and averaged models, compiled ones, Lightning's, and our own checkpoints
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
COUNTERS = ("n_averaged", "total_ops", "total_params")  # of averaging, and of tools that count MACs
SHARED = (
    "shared_tensors"  # in the header of a checkpoint of ours: the name of the file with the rest
)
DEPTH = 4  # of wrappings
SHOWN = 5  # names in a message


def tensors_of(path: Path, source: str) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file, or from a state dict or a checkpoint that torch saved.

    `source` is how messages call the file. Raises ValueError with one line.
    """
    found = _loaded(path, source)
    if not isinstance(found, Mapping):
        raise ValueError(f"init_from: {source} holds a {type(found).__name__}, not a state dict")
    tensors = _without_prefixes(_unwrapped(found) | _shared(path, source))
    if not tensors:
        raise ValueError(f"init_from: {source} holds no tensors by name{_contents(found)}")
    return tensors


def _loaded(path: Path, source: str) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise what they like at a file that is none of theirs
        if path.suffix != ".safetensors" and (objects := _objects(path)):
            raise ValueError(
                f"init_from: {source} also holds {objects}, which reading would execute, so nothing is read; where it "
                "was made, save the weights alone: torch.save(model.state_dict(), FILE)"
            ) from None
        raise ValueError(
            f"init_from: {source} holds no weights that can be read safely ({first_line(error)})"
        ) from None


def _shared(path: Path, source: str) -> dict[str, Tensor]:
    """The tensors that a checkpoint of ours shares with others, from the file beside it that its header names."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        name = (file.metadata() or {}).get(SHARED)
    if name is None:
        return {}
    beside = path.with_name(f"{Path(name).name}.shared")
    try:
        return load_file(beside)
    except (SafetensorError, OSError):
        raise ValueError(
            f"init_from: {source} has a part of its weights in {beside.name}, which is not beside it or is damaged; "
            "copy both files"
        ) from None


def _harmless() -> list[Any]:
    """What checkpoints keep beside tensors, and what only holds values: arguments, paths, NumPy's numbers."""
    import numpy as np
    from numpy._core import multiarray

    kinds = [type(np.dtype(name)) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")]
    arrays = [multiarray.scalar, multiarray._reconstruct, np.ndarray, np.dtype, *kinds]
    older = [
        (getattr(multiarray, name), f"numpy.core.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
    ]
    paths = [pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath]
    return [argparse.Namespace, Counter, *paths, *arrays, *older]


def _objects(path: Path) -> str:
    """The kinds of objects in the file that are no plain values, as a message names them; empty where it has none."""
    try:
        with torch.serialization.safe_globals(_harmless()):
            found = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # what torch did not save has nothing to tell
        return ""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _contents(found: Mapping[Any, Any]) -> str:
    """What a checkpoint has instead of a state dict."""
    if not found:
        return ""
    parts = [f"{name} ({type(value).__name__})" for name, value in list(found.items())[:SHOWN]]
    return f", but {', '.join(parts)}; weights are looked for under {', '.join(WRAPPERS)}"


def _unwrapped(found: Mapping[Any, Any]) -> dict[str, Tensor]:
    for _ in range(DEPTH):
        inner = next((found[name] for name in WRAPPERS if _has_tensors(found.get(name))), None)
        if inner is None:
            break
        found = inner
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _has_tensors(value: object, depth: int = DEPTH) -> bool:
    if not isinstance(value, Mapping):
        return False
    if any(isinstance(one, Tensor) for one in value.values()):
        return True
    return depth > 0 and any(_has_tensors(value.get(name), depth - 1) for name in WRAPPERS)


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors: prefixes that all of them have are taken off, what lies beside the network is left out."""
    tensors = {k: v for k, v in tensors.items() if k.rpartition(".")[2] not in COUNTERS}
    # a trial's checkpoint keeps more of the optimiser than of the network; Lightning's keeps losses beside it
    for prefix, share in (("net.", 0.0), ("model.", 0.5)):
        own = {name: value for name, value in tensors.items() if name.startswith(prefix)}
        if len(own) > share * len(tensors):
            tensors = own
    while prefix := next((p for p in PREFIXES if tensors and all(k.startswith(p) for k in tensors)), ""):  # fmt: skip
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
