"""Checkpoints that nothing can need any more: of trials that are off the front of a study that is finished."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.commands.status import is_driven
from search.front.stored import study_front
from search.report.amounts import file_size
from search.run.lease import lease
from storage.checkpoint_files import (
    bytes_of,
    feature_files,
    study_files,
    training_files,
    training_key,
)
from storage.records import Kind, State, StudyRecord, TrialRecord, trainings_of
from storage.store import Store

ENDED = (State.COMPLETE, State.STOPPED, State.FAILED)


@dataclass(frozen=True)
class Cleaning:
    """What of a study's checkpoints can go; where nothing may, `why` says so."""

    study: str
    whole: int  # bytes of all of its checkpoints
    trainings: int  # whose checkpoints can go
    files: tuple[Path, ...]
    why: str

    @property
    def freed(self) -> int:
        return bytes_of(self.files)

    def as_dict(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "checkpoint_bytes": self.whole,
            "trainings": self.trainings,
            "can_go_bytes": self.freed,
            "why": self.why,
        }


def cleanings(store: Store, checkpoints: Path, name: str | None) -> list[Cleaning]:
    """What can go of each study, or of the one named."""
    records = store.studies() if name is None else [store.study(name)]
    return [_cleaning(store, record, checkpoints) for record in records]


def clean(store: Store, one: Cleaning, checkpoints: Path) -> int:
    """Delete what can go; returns how many bytes. Raises ValueError where a process has taken the study up."""
    if not one.files:
        return 0
    with lease(store, one.study):
        now = _cleaning(store, store.study(one.study), checkpoints, ours=True)
        freed = now.freed
        for file in now.files:
            file.unlink(missing_ok=True)
    return freed


def lines(found: list[Cleaning], *, dry: bool) -> Iterator[str]:
    """What goes, or would go, by study, and why the rest stays."""
    for one in found:
        yield f"{one.study}: {file_size(one.whole)} of checkpoints"
        if one.files:
            verb = "can go" if dry else "gone"
            count = f"{one.trainings} training{'s' * (one.trainings != 1)}"
            yield f"  {file_size(one.freed)} {verb}, of {count}: {one.why}"
        else:
            yield f"  nothing can go: {one.why}"


def feature_line(store: Store, folder: Path, *, dry: bool) -> str:
    """What goes, or would go, of the features of frozen trunks; empty where there are none."""
    size = bytes_of(feature_files(folder))
    if not size:
        return ""
    if _in_use(store):
        return f"features of frozen trunks: {file_size(size)} stay, a study is being searched"
    return f"features of frozen trunks: {file_size(size)} {'can go' if dry else 'gone'}"


def clean_features(store: Store, folder: Path) -> None:
    """Delete the features of frozen trunks, unless a study is being searched."""
    if not _in_use(store):
        for file in feature_files(folder):
            file.unlink(missing_ok=True)


def _in_use(store: Store) -> bool:
    return any(is_driven(record) for record in store.studies())


def _cleaning(
    store: Store, record: StudyRecord, checkpoints: Path, *, ours: bool = False
) -> Cleaning:
    whole = bytes_of(study_files(checkpoints, record.name))
    trials = store.trials(record.name)
    if is_driven(record) and not ours:
        return Cleaning(record.name, whole, 0, (), "it is being searched")
    if why := _unfinished(record, trials):
        return Cleaning(record.name, whole, 0, (), why)
    needed = _needed(store, record)
    found = []
    for trial in trials:
        key = training_key(record.name, trial.kind, trial.number)
        if _can_go(trial, needed) and (files := training_files(checkpoints, key)):
            found.append(files)
    if not found:
        why = "all are of the front, of baselines, of stopped trials, of failed ones or exported"
        return Cleaning(record.name, whole, 0, (), why)
    why = "the study is finished, and these are off the front, or finalists"
    every = tuple(file for files in found for file in files)
    return Cleaning(record.name, whole, len(found), every, why)


def _unfinished(record: StudyRecord, trials: list[TrialRecord]) -> str:
    """Why a study may still need all of its checkpoints; empty where it is finished."""
    if any(trial.state == State.RUNNING for trial in trials):
        return "it was interrupted; search it to its end first, or delete it"
    budget = record.spec["budget"]["trials"]
    ended = sum(trial.kind == Kind.SEARCH and trial.state in ENDED for trial in trials)
    if ended < budget:
        return f"{ended} of {budget} trials have ended; search it to its end first, or delete it"
    return ""


def _needed(store: Store, record: StudyRecord) -> set[tuple[Kind, int]]:
    """The trainings on the study's front or on a family's own, and those of exported models."""
    families = [None, *record.spec["families"]]
    shown = [p for family in families for p in study_front(store, record, family).members]
    exported = {one.point for one in store.exports(record.name) if one.point is not None}
    shown += store.points_by_id(record.name, sorted(exported))
    return {training for point in shown for training in trainings_of(point)}


def _can_go(trial: TrialRecord, needed: set[tuple[Kind, int]]) -> bool:
    """Finalists are never exported; baselines stay, for trials start from them and exports are compared with them."""
    if trial.state != State.COMPLETE or trial.kind == Kind.BASELINE:
        return False
    return trial.kind == Kind.FINALIST or (trial.kind, trial.number) not in needed
