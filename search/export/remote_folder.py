"""Exported models at an fsspec URL: written on this machine first, then put there; fetched to be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from search.export.folder import MODEL, is_exported
from storage.remote_store import filesystem, puts_whole, reaching
from storage.urls import is_url


@contextmanager
def local_folder(place: Path | str) -> Iterator[Path]:
    """The folder, or a copy of what is at a URL, which goes with the block; errors inside name the URL in its place.

    Raises ValueError where there is no exported model, AwayError where the place does not answer.
    """
    if not is_url(place):
        yield Path(place)
        return
    with TemporaryDirectory(prefix="dynafront-") as name:
        _fetch(str(place), Path(name))
        try:
            yield Path(name)
        except ValueError as error:
            if name not in str(error):
                raise
            raise ValueError(str(error).replace(name, str(place))) from error


@contextmanager
def folder_to_fill(place: Path | str, force: bool) -> Iterator[Path]:
    """The folder to write an exported model into: for a URL one of this machine, to be put there by `put_folder`.

    Raises ValueError for a URL that holds anything, other than an earlier export that is to be overwritten.
    """
    if not is_url(place):
        yield Path(place)
        return
    url = str(place)
    found = _names(url)
    if MODEL in found and not force:
        raise ValueError(
            f"{url}: holds an exported model already; --force overwrites it, --out takes another place"
        )
    if found and MODEL not in found:
        raise ValueError(
            f"{url}: is not empty and holds no exported model; give --out another place"
        )
    with TemporaryDirectory(prefix="dynafront-") as name:
        yield Path(name) / "exported"


def put_folder(folder: Path, place: Path | str) -> None:
    """Put the files of the folder there, in place of an earlier export; what describes them goes first and comes last.

    What else lies there stays, other models below it too. Nothing happens where the place is this folder.
    """
    if not is_url(place):
        return
    url, files, root = str(place), *filesystem(str(place))
    names = [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]
    before = [name for name in _names(url) if is_exported(name)]
    with reaching(url):
        for name in sorted(before, key=lambda name: name != MODEL):
            files.rm_file(f"{root}/{name}")
        for name in sorted(names, key=lambda name: name == MODEL):
            if not puts_whole(files):
                files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            files.put_file(str(folder / name), f"{root}/{name}")


def _fetch(url: str, folder: Path) -> None:
    names = _names(url)
    if MODEL not in names:
        raise ValueError(f"{url}: holds no exported model; name where `dynafront export` put one")
    files, root = filesystem(url)
    with reaching(url):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            files.get_file(f"{root}/{name}", str(folder / name))


def _names(url: str) -> list[str]:
    """The files below the URL, by their path from there."""
    files, root = filesystem(url)
    with reaching(url):
        return [path[len(root) + 1 :] for path in files.find(root)]
