"""Checkpoints of trainings: tensors and their state in one file, so that the two can never be of different epochs.

The state is JSON in the safetensors header; nothing is ever unpickled. Each save goes to a new file that then replaces
the last one, and the one before is kept: a crash at any moment, or a damaged file, costs at most one epoch.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, uint8

from storage.errors import UnwrittenError, error_line
from storage.weights_file import save_weights

logger = logging.getLogger(f"dynafront.{__name__}")

SUFFIX, BEFORE, UNFINISHED = ".safetensors", ".before.safetensors", ".tmp"
_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


class Checkpoints:
    """Checkpoints by key (letters, digits, '-', '_', and '/' for folders) below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def save(self, key: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the key's checkpoint; tensors may lie on any device, share memory and have any layout.

        Raises UnwrittenError, and the checkpoint is as it was.
        """
        path = self.path(key)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
        # safetensors refuses tensors that share storage or are not contiguous
        plain = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
        }
        text = json.dumps(state)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_weights(plain, unfinished, {"state": text, "checksum": _checksum(plain, text)})
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
            if path.exists():
                os.replace(path, self._before(path))
            os.replace(unfinished, path)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise UnwrittenError(f"{path}: {error_line(error)}") from error

    def load(
        self, key: str, *, latest: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The latest checkpoint that can be read, tensors on the CPU; None when there is none.

        With `latest`, only what was saved last: not the one before, where that is damaged.
        """
        path = self.path(key)
        for candidate in (path,) if latest else (path, self._before(path)):
            found = _read(candidate)
            if found is not None:
                return found
        return None

    def remove(self, key: str) -> None:
        """Delete the key's checkpoint and the one before; nothing happens when there is none."""
        path = self.path(key)
        # one a process that was writing
        unfinished = path.parent.glob(f"{path.name}.*{UNFINISHED}")
        for file in (path, self._before(path), *unfinished):
            file.unlink(missing_ok=True)

    def keys(self) -> list[str]:
        """All keys that have a checkpoint, sorted."""
        found = set()
        for file in self.folder.rglob(f"*{SUFFIX}"):
            name = file.relative_to(self.folder).as_posix()
            found.add(name.removesuffix(BEFORE).removesuffix(SUFFIX))
        return sorted(found)

    def path(self, key: str) -> Path:
        """Where the key's checkpoint lies."""
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"{key!r} is not a checkpoint key; use letters, digits, '-', '_' and '/'"
            )
        return self.folder / f"{key}{SUFFIX}"

    def _before(self, path: Path) -> Path:
        return path.with_name(path.name.removesuffix(SUFFIX) + BEFORE)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # older files have no checksum; in one whose name is spoiled it is not absent
        intact = set(found) == {"state"} or found["checksum"] == _checksum(tensors, found["state"])
        if not intact:
            logger.warning("%s is damaged", path)
        return (tensors, json.loads(found["state"])) if intact else None
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return None


def _checksum(tensors: dict[str, Tensor], state: str) -> str:
    """Of state, names, shapes, types and values: safetensors itself notices only a file that is too short."""
    found = zlib.crc32(state.encode())
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(uint8).numpy().data, found)
    return str(found)
