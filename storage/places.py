"""Places of files in the tables: what lies in the data folder is addressed from there, so that both can be moved."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from storage.records import StudyRecord

INSIDE = "{storage.folder}/"


def stored_place(path: Path, folder: Path) -> str:
    """The path as it is stored by a study whose data folder is `folder`."""
    whole, data = path.resolve(), folder.resolve()
    if whole.is_relative_to(data):
        return INSIDE + whole.relative_to(data).as_posix()
    return str(path)


def place(stored: str, folder: Path) -> Path:
    """Where that is now. A whole path into a data folder, as it was stored before, is looked for in this one."""
    if stored.startswith(INSIDE):
        return folder / stored.removeprefix(INSIDE)
    path = Path(stored)
    if path.is_absolute() and not path.exists() and folder.name in path.parts:
        after = len(path.parts) - path.parts[::-1].index(folder.name)
        moved = folder.joinpath(*path.parts[after:])
        return moved if moved.exists() else path
    return path


def place_text(stored: str, folder: Path) -> str:
    """The same for people; a URL is itself."""
    return stored if "://" in stored else str(place(stored, folder))


def page_files(record: StudyRecord, folder: Path) -> Path:
    """Where what our pages made of a study lies: measures and pictures that can be made again at any time.

    Another study of the same name, after this one was deleted, has another place.
    """
    own = sha256(f"{record.name} {record.created_at.isoformat()}".encode()).hexdigest()[:16]
    return folder / "pages" / own
