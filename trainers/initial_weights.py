"""Weights that a training starts from: a file of the user's, or torchvision's pretrained ones where they can be had.

Shapes: none fixed; tensors are matched by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from spaces.contract.net import DynamicNet
from trainers.data.paths import TORCHVISION, expanded, weights_file

TRAINING = "training:"  # before the digest of what a checkpoint of ours is of
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)  # keys under which training scripts keep a state dict
PREFIXES = (
    "module.",
    "net.",
    "_orig_mod.",
)  # of data-parallel, our own checkpoints and compiled modules


@lru_cache(maxsize=2)
def initial_state(source: str) -> dict[str, Tensor]:
    """Tensors by name from PATH (safetensors, or a state dict that torch saved) or `torchvision:NAME`.

    Nothing in a file is executed. Raises ValueError with one line.
    """
    if source.startswith(TORCHVISION):
        return _torchvision(source.removeprefix(TORCHVISION))
    path = weights_file(source)
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise what they like at a file that is none of theirs
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"init_from: {source} holds no weights that can be read safely ({reason})"
        ) from None
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping):
        raise ValueError(f"init_from: {source} holds a {type(found).__name__}, not a state dict")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    # of a trial's checkpoint the network alone
    if any(name.startswith("net.") for name in tensors):
        tensors = {name: value for name, value in tensors.items() if name.startswith("net.")}
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    if not tensors:
        raise ValueError(f"init_from: {source} holds no tensors")
    return tensors


def _torchvision(name: str) -> dict[str, Tensor]:
    import torchvision

    if name not in torchvision.models.list_models():
        from spaces.contract.space import nearest

        known = nearest(name, torchvision.models.list_models())
        raise ValueError(f"init_from: torchvision has no model {name}{known}")
    try:
        return dict(torchvision.models.get_model(name, weights="DEFAULT").state_dict())
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"init_from: the weights of torchvision:{name} cannot be had on this machine "
            f"({str(error).splitlines()[0]}); download them elsewhere and give the file"
        ) from None


def digest(source: str) -> str | None:
    """What tells two sources apart: a model's name, what was trained for how long, the content of any other file.

    A training of ours that is done again is the same source. None when the file is gone.
    """
    if source.startswith(TORCHVISION):
        return source
    path = expanded(source)
    if not path.is_file():
        return None
    if (training := _training(path)) is not None:
        return TRAINING + hashlib.sha256(training.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _training(path: Path) -> str | None:
    """What was trained, and its epochs so far, if the file is a training's checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
        return json.dumps([state["identity"], state["epochs_done"]], sort_keys=True)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def start_from(net: DynamicNet, source: str, needed: Iterable[str]) -> int:
    """Load the weights that `source` has for the plain part of the network; returns how many tensors were loaded.

    `needed` are the names of the baseline's tensors. A classifier for another number of classes is left as it is;
    filters of colour images are summed for gray ones.
    Raises ValueError, the network unchanged, when tensors lack or have other shapes.
    """
    given, own = net.plain_state(initial_state(source)), net.state_dict()
    wanted = [name for name in needed if not name.endswith("num_batches_tracked")]
    missing = [name for name in wanted if name not in given]
    if missing:
        raise ValueError(
            f"init_from: {source} lacks {len(missing)} of the {len(wanted)} tensors of the baseline, such as "
            f"{missing[0]}; it was made for another architecture"
        )
    chosen, classifier = {}, wanted[-1].rpartition(".")[0]
    for name in wanted:
        there, here = tuple(given[name].shape), tuple(own[name].shape)
        if there == here:
            chosen[name] = given[name]
        elif len(there) == 4 and there == (here[0], 3, *here[2:]) and here[1] == 1:
            # what colour filters answer to a gray image
            chosen[name] = given[name].sum(1, keepdim=True)
        elif name.rpartition(".")[0] != classifier or there[1:] != here[1:]:
            raise ValueError(
                f"init_from: {source}: {name} has shape {there}, this network needs {here}; fix the sizes in `space` "
                "to those that the file was made with"
            )
    net.load_state_dict(chosen, strict=False)
    return len(chosen)
