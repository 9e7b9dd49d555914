"""Which files a study's checkpoints are, and how large; without torch, which reading and writing them takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from storage.records import Kind

SUFFIX, BEFORE, UNFINISHED = ".safetensors", ".before.safetensors", ".tmp"
MARK = ".mark"  # behind the name of a file: which version of a remote store it is


def training_key(study: str, kind: Kind, number: int) -> str:
    """The key of a training's checkpoint; baselines that trials start from have another."""
    return f"{study}/{kind}-{number:04d}"


def answers_file(folder: Path, key: str) -> Path:
    """Where the answers of a training lie, beside its checkpoint: of those files that go with it."""
    return folder / f"{key}.answers"


def study_files(folder: Path, study: str) -> list[Path]:
    """The files of a study below the folder of all checkpoints."""
    return _files((folder / study).rglob("*"))


def training_files(folder: Path, key: str) -> list[Path]:
    """The files of a training: its last epoch, the one before, and what a process left unfinished."""
    place = folder / key
    return _files(place.parent.glob(f"{place.name}.*"))


def files_below(folder: Path) -> list[Path]:
    """The files of a folder that other machines may need: of each training its last epoch, and what goes with it."""
    apart = (BEFORE, UNFINISHED, MARK)
    return [file for file in _files(folder.rglob("*")) if not file.name.endswith(apart)]


def feature_files(folder: Path) -> list[Path]:
    """The files of kept features of frozen trunks, unfinished ones too."""
    return _files(folder.glob("*.npy*"))


def bytes_of(files: Iterable[Path]) -> int:
    """The size of these files; one that went away in the meantime has none."""
    return sum(file.stat().st_size for file in files if file.exists())


def remove_study(folder: Path, study: str) -> None:
    """Delete all checkpoints of a study."""
    shutil.rmtree(folder / study, ignore_errors=True)


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file())
