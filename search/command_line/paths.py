"""Paths on the command line: `~` and `$NAME` where no shell put them in, and places that can be written to."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click

from storage.urls import is_url


class GivenPath(click.Path):
    """A path as people write it."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=dir_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value)
        if not os.path.lexists(text):
            text = os.path.expanduser(os.path.expandvars(text))
        return super().convert(text, param, ctx)


class OutFolder(GivenPath):
    """A folder to write into, made later. That it can be is tried at once: what it is for takes minutes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        folder = super().convert(value, param, ctx)
        _try(folder, folder, "another folder", self, param, ctx)
        return folder


class _OrUrl(GivenPath):
    """A URL stays the text that it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return str(value) if is_url(value) else super().convert(value, param, ctx)


class GivenPlace(_OrUrl):
    """A folder as people write it, or a URL."""


class OutPlace(_OrUrl, OutFolder):
    """A folder to write into, or a URL."""


class OutFile(GivenPath):
    """A file to write, in a folder that is there or can be made."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        file = super().convert(value, param, ctx)
        _try(file, file.parent, "a file in another folder", self, param, ctx)
        return file


def _try(
    given: Path,
    folder: Path,
    instead: str,
    kind: click.ParamType,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> None:
    """Write into the folder and leave nothing. Fails as the parameter where that cannot be."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        if folder.exists() and not folder.is_dir():
            kind.fail(f"{folder}: is a file; give a folder", param, ctx)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        kind.fail(f"{given}: cannot be written ({error.strerror}); give {instead}", param, ctx)
    finally:
        for one in missing:
            with suppress(OSError):
                one.rmdir()
