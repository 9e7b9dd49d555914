"""Tensors that many checkpoints have in common, such as a trunk that no training changes: kept once in a folder.

A file is named by what it holds, and written aside and renamed when it is whole. Who finds it damaged writes it anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, uint8

from storage.in_place import put_in_place
from storage.weights_file import save_weights

logger = logging.getLogger(f"dynafront.{__name__}")

SHARED = ".shared"


def shared_file(folder: Path, name: str) -> Path:
    """Where the tensors of this name lie."""
    return folder / f"{name}{SHARED}"


def keep_shared(folder: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the tensors, unless they are there and whole; returns their name, a digest of what they hold."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    name = _digest(plain)
    if shared_tensors(folder, name) is None:
        file = shared_file(folder, name)
        unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        save_weights({k: tensor.clone() for k, tensor in plain.items()}, unfinished)
        put_in_place(unfinished, file)
    return name


def shared_tensors(folder: Path, name: str) -> dict[str, Tensor] | None:
    """The tensors of this name, on the CPU; None where their file is gone or damaged."""
    file = shared_file(folder, name)
    try:
        tensors = load_file(file)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError) as error:
        logger.warning("%s cannot be read: %s", file, error)
        return None
    if _digest(tensors) != name:
        logger.warning("%s is damaged", file)
        return None
    return tensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Of names, shapes, types and values."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(uint8).numpy().data)
    return found.hexdigest()[:32]
