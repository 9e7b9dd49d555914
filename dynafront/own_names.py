"""The other packages of dynafront have plain names; a file of the user's may have one too, and hide ours."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

NAMES = ("search", "spaces", "trainers", "storage")
HERE = Path(__file__).resolve().parents[1]  # what holds this package holds the others


def check_own_names() -> None:
    """Raise ImportError, which names the file, where another module than ours answers to one of our names."""
    for name in NAMES:
        found = _file_of(name)
        if found is not None and found.resolve() != HERE / name / "__init__.py":
            raise ImportError(_hidden(name, found), name=name)


def _file_of(name: str) -> Path | None:
    """The file that `import name` takes, without importing it; None for what is no file."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module that was put together by hand
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin)


def _hidden(name: str, file: Path) -> str:
    shown = file.parent if file.name == "__init__.py" else file
    if {"site-packages", "dist-packages"} & set(file.parts):
        cure = "uninstall the package that it belongs to, or use an environment of its own"
    elif name in sys.modules:
        cure = "rename it, or run from another folder, and start Python again"
    else:
        cure = "rename it, or run from another folder"
    return f"{shown} hides dynafront's own package '{name}': {cure}"
