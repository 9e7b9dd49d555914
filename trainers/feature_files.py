"""Arrays that are computed once and kept in files, for all trainings of all processes of a machine.

A file is written aside and renamed when it is whole, so that a half-written one is never read. Processes that want the
same arrays wait for the one that computes them. Together the files take at most so many bytes: those that were used
longest ago are deleted first. A file that is read may be deleted; its reader keeps it until it is closed.

Shapes: N images, B of a batch, D numbers of an image.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

logger = logging.getLogger(f"dynafront.{__name__}")

Rows = dict[str, NDArray[np.generic]]
SUFFIX = ".npy"


class NoRoomError(OSError):
    """The arrays do not fit: into the bytes that they may take, or onto the disk."""


@dataclass(frozen=True)
class Wanted:
    """An array (rows, width) under a key, which says all that its values depend on."""

    key: str
    rows: int
    width: int
    dtype: str

    @property
    def nbytes(self) -> int:
        return self.rows * self.width * np.dtype(self.dtype).itemsize


class Elsewhere(Protocol):
    """Where other machines keep the same files, which have the same names there."""

    def fetch(self, file: Path) -> bool:
        """Make the file; False where it is not there, or cannot be had."""
        ...

    def put(self, file: Path) -> None:
        """Keep a copy, if that can be done."""
        ...


@dataclass(frozen=True)
class FeatureFiles:
    """The files of a folder, which together take at most `limit` bytes.

    What another machine computed is fetched from `elsewhere`, and what is computed here is put there.
    """

    folder: Path
    limit: int
    elsewhere: Elsewhere | None = None

    def arrays(
        self,
        wanted: Mapping[str, Wanted],
        compute: Callable[[list[str]], Iterator[Rows]],
        most: int | None = None,
    ) -> Rows:
        """The arrays by name, memory-mapped; `compute` gives those named in batches of rows where they are not there.

        Raises NoRoomError where they take more than `most` bytes (the files' limit), or the disk is full.
        """
        size = sum(one.nbytes for one in wanted.values())
        if size > min(self.limit, most or self.limit):
            raise NoRoomError(f"{size} bytes of features are more than {self.limit}")
        found = self._present(wanted)
        if len(found) == len(wanted):
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # one lock for all: two computations at once would share the same cores
            with FileLock(self.folder / "lock"):
                missing = self._missing(wanted)
                self._make_room(sum(one.nbytes for one in missing.values()), wanted)
                if missing := self._not_elsewhere(missing):
                    self._write(missing, compute(list(missing)))
                    self._put_elsewhere(missing)
                return self._present(wanted)
        except NoRoomError:
            raise
        except OSError as error:
            raise NoRoomError(f"{self.folder}: {error.strerror or error}") from error

    def files(self) -> list[Path]:
        """All files, those used longest ago first, unfinished ones too."""
        return sorted(self.folder.glob(f"*{SUFFIX}*"), key=_last_used)

    def clear(self) -> int:
        """Delete all; returns how many bytes they had."""
        freed = 0
        for file in self.files():
            freed += _size(file)
            file.unlink(missing_ok=True)
        return freed

    def _file(self, one: Wanted) -> Path:
        return self.folder / f"{one.key}{SUFFIX}"

    def _present(self, wanted: Mapping[str, Wanted]) -> Rows:
        found = {name: _opened(self._file(one), one) for name, one in wanted.items()}
        return {name: array for name, array in found.items() if array is not None}

    def _missing(self, wanted: Mapping[str, Wanted]) -> dict[str, Wanted]:
        found = self._present(wanted)
        return {name: one for name, one in wanted.items() if name not in found}

    def _not_elsewhere(self, missing: dict[str, Wanted]) -> dict[str, Wanted]:
        """Fetch what other machines have; returns what has to be computed."""
        if self.elsewhere is None:
            return missing
        for one in missing.values():
            self.elsewhere.fetch(self._file(one))
        return self._missing(missing)

    def _put_elsewhere(self, made: Mapping[str, Wanted]) -> None:
        if self.elsewhere is not None:
            for one in made.values():
                self.elsewhere.put(self._file(one))

    def _make_room(self, needed: int, wanted: Mapping[str, Wanted]) -> None:
        """Delete what was used longest ago until so many bytes fit; first what a killed process left unfinished."""
        kept = {self._file(one) for one in wanted.values()}
        unfinished = [file for file in self.files() if file.suffix != SUFFIX]
        for file in unfinished:
            file.unlink(missing_ok=True)
        files = self.files()
        total = sum(map(_size, files))
        for file in files:
            if total + needed <= self.limit:
                return
            if file not in kept:
                total -= _size(file)
                file.unlink(missing_ok=True)

    def _write(self, missing: Mapping[str, Wanted], batches: Iterator[Rows]) -> None:
        """Write the rows as they come, never through a map: a full disk is then an error, not a signal."""
        asides = {n: self._file(one).with_suffix(f"{SUFFIX}.{os.getpid()}") for n, one in missing.items()}  # fmt: skip
        try:
            with _opened_for_writing(asides, missing) as handles:
                for rows in batches:
                    for name, handle in handles.items():
                        handle.write(np.ascontiguousarray(rows[name]).tobytes())
            for name, aside in asides.items():
                os.replace(aside, self._file(missing[name]))
        finally:
            for aside in asides.values():
                with suppress(OSError):
                    aside.unlink(missing_ok=True)


class _opened_for_writing:  # noqa: N801
    """Files with the head of an array each, closed and on the disk afterwards."""

    def __init__(self, files: Mapping[str, Path], wanted: Mapping[str, Wanted]) -> None:
        self.files, self.wanted = files, wanted
        self.handles: dict[str, BinaryIO] = {}

    def __enter__(self) -> dict[str, BinaryIO]:
        for name, file in self.files.items():
            one, handle = self.wanted[name], file.open("wb")
            self.handles[name] = handle
            np.lib.format.write_array_header_1_0(
                handle,
                {
                    "descr": np.dtype(one.dtype).str,
                    "fortran_order": False,
                    "shape": (one.rows, one.width),
                },
            )
        return self.handles

    def __exit__(self, *error: object) -> None:
        for handle in self.handles.values():
            try:
                handle.flush()
                os.fsync(handle.fileno())
            finally:
                handle.close()


def _opened(file: Path, one: Wanted) -> NDArray[np.generic] | None:
    """The array of a file, which is then the one used last; None where it is missing or not that array."""
    try:
        array = np.load(file, mmap_mode="r")
        os.utime(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s is no whole file of features and is computed anew: %s", file, error)
        return None
    right = array.shape == (one.rows, one.width) and array.dtype == np.dtype(one.dtype)
    return array if right else None


def _last_used(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
