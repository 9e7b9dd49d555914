"""Files of a folder on this machine that other machines find too: what is written here is put into a remote store.

Beside each file that was put or fetched lies its mark: which version of the store it is. So a file is hashed once, and
whether it is still to be put can be told without the store. Where both have one that the other does not know, that of
the store counts: only who drives a study writes its files, and another driver has been here since.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from storage.checkpoint_files import MARK, UNFINISHED, files_below
from storage.remote_store import AwayError, RemoteStore, Version, digest_of
from storage.uploads import Uploads

logger = logging.getLogger(f"dynafront.{__name__}")

CHECKPOINTS, FEATURES = "checkpoints", "features"  # folders of a store


@dataclass(frozen=True)
class _Mark:
    """Which version of the store a local file is, as long as its size and time stay."""

    version: Version
    size: int
    time: int  # nanoseconds, as the filesystem has it

    def fits(self, file: Path) -> bool:
        return (self.size, self.time) == _looks(file)


class KeptFiles:
    """Files below `folder`, and their versions at `url`; without a URL, the folder alone.

    While the store is away, files stay here to be put later; `news` says so once.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = Path(folder)
        self.remote = RemoteStore(url) if url else None
        self.away = ""  # why the store could not be reached the last time
        self._said = ""
        self._uploads: Uploads | None = None

    def fetch(self, file: Path, *, anew: bool = False) -> None:
        """Bring the file to the newest version of the store that is whole, unless it is that, or newer.

        With `anew`, whatever lies here is not trusted.
        """
        if self.remote is None:
            return
        with self._reaching():
            known = self.remote.versions(self.name(file))
            last = 0 if anew else self._number(file, known)
            for version in known:
                if version.number <= last or self._fetched(file, version):
                    return

    def put(self, file: Path) -> None:
        """Put the file as a new version, unless it was. Raises AwayError."""
        if self.remote is None or not self.is_pending(file):
            return
        with self._reaching(raising=True), _held(file) as held:
            digest, name, mark = digest_of(held), self.name(file), _mark_of(file)
            last = mark.version if mark else next(iter(self.remote.versions(name)), None)
            if last is None or last.digest != digest:
                number = last.number + 1 if last else 1
                last = Version(number, digest, held.stat().st_size)
                self.remote.put(name, held, last)
            _write_mark(file, _Mark(last, *_looks(held)))

    def put_soon(self, file: Path) -> None:
        """Put the file while this process does something else."""
        if self.is_pending(file):
            self._uploads = self._uploads or Uploads(self)
            self._uploads.add(file)

    def flush(self) -> None:
        """Wait for what is put meanwhile, unless the store is away."""
        if self._uploads is not None:
            self._uploads.flush()

    def is_pending(self, file: Path) -> bool:
        """Whether the file is here, and not in the store."""
        if self.remote is None or not file.exists():
            return False
        mark = _mark_of(file)
        return mark is None or not mark.fits(file)

    def put_all(self, files: Iterable[Path]) -> int:
        """Put those that are not there; returns how many still are not, for the store is away."""
        pending = [file for file in files if self.is_pending(file)]
        for index, file in enumerate(pending):
            try:
                self.put(file)
            except AwayError:
                return len(pending) - index
        return 0

    def names(self, place: str) -> set[str]:
        """The files in this folder, here or in the store, by their path from the folder of all."""
        return {self.name(file) for file in files_below(self.folder / place)} | set(
            self.stored(place)
        )

    def stored(self, place: str) -> dict[str, int]:
        """What the files in this folder take in the store, by name, all versions of each; empty while it is away."""
        if self.remote is None:
            return {}
        with self._reaching():
            found = self.remote.files(place)
            return {name: sum(v.size for v in versions) for name, versions in found.items()}
        return {}

    def remove(self, file: Path) -> None:
        """Delete the file here and in the store."""
        for one in (file, _mark_file(file)):
            one.unlink(missing_ok=True)
        if self.remote is not None:
            with self._reaching():
                self.remote.remove(self.name(file))

    def news(self) -> str:
        """One line when the store went away, or is there again, since this was asked last; else nothing."""
        if self.remote is None or bool(self.away) == bool(self._said):
            return ""
        self._said = self.away
        if self.away:
            return (
                f"{self.away}; checkpoints stay on this machine, and are put there when it answers"
            )
        return f"{self.remote.url} answers again"

    def _number(self, file: Path, known: list[Version]) -> int:
        """The number of the version that the file here is, or was before it changed; 0 where there is none."""
        if not file.exists():
            return 0
        mark = _mark_of(file)
        if known and (mark is None or mark.version.number < known[0].number):
            looks = _looks(file)
            if digest_of(file) == known[0].digest:
                mark = _Mark(known[0], *looks)
                _write_mark(file, mark)
        return mark.version.number if mark else 0

    def _fetched(self, file: Path, version: Version) -> bool:
        assert self.remote is not None
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(file)
        try:
            if not self.remote.get(self.name(file), version, aside):
                return False
            mark = _Mark(version, *_looks(aside))
            os.replace(aside, file)
            _write_mark(file, mark)
        finally:
            aside.unlink(missing_ok=True)
        logger.info("%s fetched, version %d", file, version.number)
        return True

    def name(self, file: Path) -> str:
        """Its path from the folder, with '/'."""
        return file.relative_to(self.folder).as_posix()

    @contextmanager
    def _reaching(self, *, raising: bool = False) -> Iterator[None]:
        """Remember whether the store answers; an error goes no further, unless it is to be raised."""
        try:
            yield
        except AwayError as error:
            logger.warning("%s", error)
            self.away = str(error)
            if raising:
                raise
        else:
            self.away = ""


@cache
def _kept(folder: Path, url: str | None, process: int) -> KeptFiles:
    return KeptFiles(folder, url)


def checkpoint_store(folder: Path, store: str | None) -> KeptFiles:
    """The files of checkpoints in this folder, and in a store where there is one; one object in all of a process."""
    return _kept(folder, f"{store}/{CHECKPOINTS}" if store else None, os.getpid())


@contextmanager
def _held(file: Path) -> Iterator[Path]:
    """What the file holds now, under a name of its own: it may be replaced meanwhile."""
    aside = _aside(file, ".put")
    aside.unlink(missing_ok=True)
    try:
        try:
            os.link(file, aside)
        except OSError:  # not every filesystem has links
            shutil.copy2(file, aside)
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def _aside(file: Path, what: str = "") -> Path:
    """A name beside the file that no other process or thread takes."""
    return file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}{what}{UNFINISHED}")


def _mark_file(file: Path) -> Path:
    return file.with_name(file.name + MARK)


def _mark_of(file: Path) -> _Mark | None:
    try:
        found = json.loads(_mark_file(file).read_text())
        version = Version(int(found["number"]), str(found["digest"]), int(found["size"]))
        return _Mark(version, version.size, int(found["time"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be read: %s", _mark_file(file), error)
        return None


def _write_mark(file: Path, mark: _Mark) -> None:
    found = {
        "number": mark.version.number,
        "digest": mark.version.digest,
        "size": mark.size,
        "time": mark.time,
    }
    place = _mark_file(file)
    aside = _aside(place)
    aside.write_text(json.dumps(found))
    os.replace(aside, place)


def _looks(file: Path) -> tuple[int, int]:
    """Size and time of change."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns
