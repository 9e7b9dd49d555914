"""Files at an fsspec URL, each kept as numbered versions whose names say what they hold.

Version 12 of the file `s/search-3.safetensors` is the object `s/search-3.safetensors/00000012-SHA256`: there at once or
not at all, and whoever reads it compares. The two newest versions are kept. Object stores put a whole object or none;
elsewhere it is written aside and renamed. Accounts come from the environment, as each filesystem of fsspec takes them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import StorageError, error_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(f"dynafront.{__name__}")

KEPT = 2  # versions of a file
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss")
# a store that does not answer must say so within a minute
QUICK_TO_SAY = {
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "retries": {"total_max_attempts": 2},
    }
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {"s3": QUICK_TO_SAY, "s3a": QUICK_TO_SAY}
_OBJECT = re.compile(r"/\d{8,}-[0-9a-f]{64}")
_VERSION = re.compile(r"(?P<name>.+)/(?P<number>\d{8,})-(?P<digest>[0-9a-f]{64})")


class AwayError(StorageError):
    """The store does not answer, or refuses."""


@dataclass(frozen=True, order=True)
class Version:
    """One version of a file; the higher its number, the newer. `digest` is the SHA-256 of what it holds."""

    number: int
    digest: str
    size: int = field(compare=False)

    @property
    def text(self) -> str:
        return f"{self.number:08d}-{self.digest}"


class RemoteStore:
    """Files by name ('/' for folders) below a URL. What cannot be done raises AwayError, of one line."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def versions(self, name: str) -> list[Version]:
        """Of a file, the newest first."""
        return self.files(name).get(name, [])

    def files(self, place: str) -> dict[str, list[Version]]:
        """The versions, the newest first, of all files in this folder, or of the file that is called so."""
        found: dict[str, list[Version]] = {}
        for path, size in self._objects(place).items():
            if parts := _VERSION.fullmatch(path):
                version = Version(int(parts["number"]), parts["digest"], size)
                found.setdefault(parts["name"], []).append(version)
        return {name: sorted(versions, reverse=True) for name, versions in found.items()}

    def put(self, name: str, file: Path, version: Version) -> None:
        """Put the file as this version; of older ones the newest stays."""
        with reaching(self.url):
            self._check_folder()
            self._put_whole(file, self._path(f"{name}/{version.text}"))
        for old in self.versions(name)[KEPT:]:
            self._remove(f"{name}/{old.text}")

    def get(self, name: str, version: Version, file: Path) -> bool:
        """Make the file of this version; False where it is damaged, or was just replaced by newer ones."""
        try:
            with reaching(self.url):
                self._files.get_file(self._path(f"{name}/{version.text}"), str(file))
        except AwayError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise
        if digest_of(file) == version.digest:
            return True
        logger.warning("%s/%s is damaged", name, version.text)
        return False

    def remove(self, place: str) -> None:
        """Delete all versions of this file, or of all files in this folder."""
        for path in self._objects(place):
            self._remove(path)

    def check(self) -> None:
        """Write and delete a few bytes there; a folder is made where there is none. Raises AwayError."""
        path = self._path(f"check-{os.getpid()}")
        with reaching(self.url):
            if not puts_whole(self._files):
                self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(path, b"dynafront")
            self._files.rm_file(path)

    @cached_property
    def _opened(self) -> tuple[AbstractFileSystem, str]:
        return filesystem(self.url)

    @property
    def _files(self) -> AbstractFileSystem:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1].rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _check_folder(self) -> None:
        """A shared disk that is not mounted is away, and not empty."""
        if not puts_whole(self._files) and not self._files.isdir(self._root):
            raise AwayError(f"{self.url}: there is no such folder; mount or make it")

    def _objects(self, place: str) -> dict[str, int]:
        """Sizes of all objects below a folder by their path from the root."""
        with reaching(self.url):
            self._files.invalidate_cache()
            self._check_folder()
            found = self._files.find(self._path(place), detail=True)
        start = len(self._root) + 1
        return {path[start:]: int(info.get("size") or 0) for path, info in found.items()}

    def _put_whole(self, file: Path, path: str) -> None:
        if puts_whole(self._files):
            self._files.put_file(str(file), path)
            return
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        aside = f"{path}.{os.getpid()}.tmp"
        self._files.put_file(str(file), aside)
        self._files.mv(aside, path)

    def _remove(self, path: str) -> None:
        """Another process may have been first."""
        with reaching(self.url), suppress(FileNotFoundError):
            self._files.rm_file(self._path(path))


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn whatever a filesystem raises into an AwayError about the URL."""
    try:
        yield
    except (StorageError, ValueError):
        raise
    except Exception as error:  # each filesystem has errors of its own
        raise AwayError(f"{url}: {_OBJECT.sub('', error_line(error))}") from error


def puts_whole(files: AbstractFileSystem) -> bool:
    """Whether it is an object store, which has no folders, and puts a whole object or none."""
    names = [files.protocol] if isinstance(files.protocol, str) else files.protocol
    return any(name in OBJECT_STORES for name in names)


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a URL, and the path there. Raises ValueError where a package lacks, with its name."""
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    options = OPTIONS.get(protocol, {})
    try:
        # other machines change it too
        found, root = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **options)
    except ImportError as error:
        needed = "needs s3fs; pip install 'dynafront[s3]'" if protocol == "s3" else str(error)
        raise ValueError(f"{url}: {needed}") from None
    except ValueError as error:
        raise ValueError(
            f"{url}: {error}; name a URL that fsspec knows, as s3://BUCKET/FOLDER"
        ) from None
    return found, str(root)


def digest_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
