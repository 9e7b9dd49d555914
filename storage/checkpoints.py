"""Checkpoints of trainings: tensors and their state in one file, so that the two can never be of different epochs.

The state is JSON in the safetensors header; nothing is ever unpickled. Each save goes to a new file that then replaces
the last one, and the one before is kept: a crash at any moment, or a damaged file, costs at most one epoch.
Tensors that no training changes lie once in a file of the folder, which the checkpoints name, see `shared_tensors`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, uint8

from storage.checkpoint_files import BEFORE, SUFFIX, UNFINISHED
from storage.errors import UnwrittenError, error_line
from storage.in_place import put_in_place
from storage.kept_files import KeptFiles
from storage.shared_tensors import keep_shared, shared_file, shared_tensors
from storage.weights_file import save_weights

logger = logging.getLogger(f"dynafront.{__name__}")

SHARED = "shared_tensors"  # in a header: the name of the file with the rest of the tensors
_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


class Checkpoints:
    """Checkpoints by key (letters, digits, '-', '_', and '/' for folders) below one folder.

    `files` puts what is saved there where other machines find it, and brings what they saved.
    """

    def __init__(self, folder: Path, files: KeptFiles | None = None) -> None:
        self.folder = Path(folder)
        self.files = files or KeptFiles(self.folder)
        self._shared: dict[str, str] = {}  # by key: what its checkpoints share with others

    def save(
        self,
        key: str,
        tensors: Mapping[str, Tensor],
        state: dict[str, Any],
        shared: Collection[str] = (),
        wanted: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Replace the key's checkpoint; tensors may lie on any device, share memory and have any layout.

        `shared` names those that are the same at every save of the key. `wanted` is asked once all is written; where
        it says no, the checkpoint is as it was, and False is returned. Raises UnwrittenError, and it is as it was.
        """
        path = self.path(key)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
        # safetensors refuses tensors that share storage or are not contiguous
        plain = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in tensors.items()
            if name not in shared
        }
        text = json.dumps(state)
        header = {"state": text}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if shared:
                header[SHARED] = self._kept(key, {name: tensors[name] for name in shared})
            header["checksum"] = _checksum(plain, text, header.get(SHARED, ""))
            save_weights(plain, unfinished, header)
            if not put_in_place(unfinished, path, self._before(path), wanted):
                return False
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise UnwrittenError(f"{path}: {error_line(error)}") from error
        if SHARED in header:
            self.files.put_soon(shared_file(path.parent, header[SHARED]))
        self.files.put_soon(path)
        return True

    def load(
        self, key: str, *, latest: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The latest checkpoint that can be read, tensors on the CPU; None when there is none.

        With `latest`, only what was saved last: not the one before, where that is damaged.
        """
        path = self.path(key)
        self.fetch(path)
        found = _read(path)
        if found is None and path.exists() and self.files.remote is not None:
            self.files.fetch(path, anew=True)
            found = _read(path)
        return found if found is not None or latest else _read(self._before(path))

    def state(self, key: str) -> dict[str, Any] | None:
        """The state of the key's checkpoint as this machine has it; None where there is none, or it cannot be read."""
        try:
            with safe_open(self.path(key), framework="pt") as file:
                return dict(json.loads((file.metadata() or {})["state"]))
        except (SafetensorError, OSError, KeyError, ValueError):
            return None

    def fetch(self, path: Path) -> None:
        """Bring a checkpoint to this path as it was last saved on any machine, with what it shares with others."""
        self.files.fetch(path)
        if self.files.remote is not None and (name := _shared_name(path)):
            self.files.fetch(shared_file(path.parent, name))

    def remove(self, key: str) -> None:
        """Delete the key's checkpoint and the one before; nothing happens when there is none."""
        path = self.path(key)
        # one a process that was writing
        unfinished = path.parent.glob(f"{path.name}.*{UNFINISHED}")
        self.files.remove(path)
        for file in (self._before(path), *unfinished):
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

    def _kept(self, key: str, tensors: Mapping[str, Tensor]) -> str:
        """The name of the shared tensors, which are written where they are not there."""
        folder, name = self.path(key).parent, self._shared.get(key)
        if name is None or not shared_file(folder, name).exists():
            self._shared[key] = name = keep_shared(folder, tensors)
        return name


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        shared = found.get(SHARED, "")
        # older files have no checksum; in one whose name is spoiled it is not absent
        intact = set(found) == {"state"} or found["checksum"] == _checksum(
            tensors, found["state"], shared
        )
        if not intact:
            logger.warning("%s is damaged", path)
            return None
        return tensors | _rest(path, shared), json.loads(found["state"])
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return None


def _shared_name(path: Path) -> str | None:
    """The name of the tensors that a checkpoint shares with others, if it is there and does."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(SHARED)
    except (SafetensorError, OSError):
        return None


def _rest(path: Path, shared: str) -> dict[str, Tensor]:
    """The tensors that a checkpoint shares with others. Raises ValueError where they are gone or damaged."""
    if not shared:
        return {}
    found = shared_tensors(path.parent, shared)
    if found is None:
        raise ValueError(f"{shared_file(path.parent, shared)} is missing or damaged")
    return found


def _checksum(tensors: Mapping[str, Tensor], state: str, shared: str) -> str:
    """Of state, names, shapes, types and values: safetensors itself notices only a file that is too short."""
    found = zlib.crc32(shared.encode(), zlib.crc32(state.encode()))
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(uint8).numpy().data, found)
    return str(found)
