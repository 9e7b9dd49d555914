"""Checkpoints that nothing can need any more: of trials that are off the front of a study that is finished."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from search.commands.disk_use import DiskUse, disk_use
from search.front.plateau import at_plateau
from search.front.stored import study_front
from search.report.amounts import file_size
from search.run.lease import is_driven, lease
from storage.checkpoint_files import (
    bytes_of,
    feature_files,
    training_files,
    training_key,
)
from storage.kept_files import FEATURES, KeptFiles
from storage.records import Kind, State, StudyRecord, TrialRecord, trainings_of
from storage.remote_store import RemoteStore
from storage.settings import Settings
from storage.store import Store

ENDED = (State.COMPLETE, State.STOPPED, State.FAILED)


@dataclass(frozen=True)
class Cleaning:
    """What of a study's checkpoints can go; where nothing may, `why` says so."""

    study: str
    disk: DiskUse  # of all of its checkpoints
    why: str
    trainings: int = 0  # whose checkpoints can go
    files: tuple[Path, ...] = ()  # of them, here
    stored: tuple[str, ...] = ()  # and in the store, by name

    @property
    def freed(self) -> int:
        return bytes_of(self.files) + sum(self.disk.stored[name] for name in self.stored)

    def as_dict(self) -> dict[str, Any]:
        return {
            "study": self.study,
            **self.disk.as_dict(),
            "trainings": self.trainings,
            "can_go_bytes": self.freed,
            "why": self.why,
        }


def cleanings(store: Store, files: KeptFiles, name: str | None) -> list[Cleaning]:
    """What can go of each study, or of the one named."""
    records = store.studies() if name is None else [store.study(name)]
    return [_cleaning(store, record, files) for record in records]


def clean(store: Store, one: Cleaning, files: KeptFiles) -> None:
    """Delete what can go. Raises ValueError where a process has taken the study up, AwayError without its store."""
    if not one.trainings:
        return
    with lease(store, one.study):
        now = _cleaning(store, store.study(one.study), files, ours=True)
        for name in now.stored:
            assert files.remote is not None
            files.remote.remove(name)
        for file in now.files:
            file.unlink(missing_ok=True)


def lines(found: list[Cleaning], *, dry: bool) -> Iterator[str]:
    """What goes, or would go, by study, and why the rest stays."""
    for one in found:
        yield f"{one.study}: {one.disk.text()}"
        if one.trainings:
            verb = "can go" if dry else "gone"
            count = f"{one.trainings} training{'s' * (one.trainings != 1)}"
            yield f"  {file_size(one.freed)} {verb}, of {count}: {one.why}"
        else:
            yield f"  nothing can go: {one.why}"


def feature_line(store: Store, settings: Settings, *, dry: bool) -> str:
    """What goes, or would go, of the features of frozen trunks; empty where there are none. Raises AwayError."""
    size = bytes_of(feature_files(settings.features))
    if settings.store is not None:
        size += sum(
            v.size for vs in _stored_features(settings.store).files("").values() for v in vs
        )
    if not size:
        return ""
    if _in_use(store):
        return f"features of frozen trunks: {file_size(size)} stay, a study is being searched"
    return f"features of frozen trunks: {file_size(size)} {'can go' if dry else 'gone'}"


def clean_features(store: Store, settings: Settings) -> None:
    """Delete the features of frozen trunks, here and for other machines, unless a study is being searched."""
    if _in_use(store):
        return
    for file in feature_files(settings.features):
        file.unlink(missing_ok=True)
    if settings.store is not None:
        _stored_features(settings.store).remove("")


def _stored_features(store: str) -> RemoteStore:
    return RemoteStore(f"{store}/{FEATURES}")


def _in_use(store: Store) -> bool:
    return any(is_driven(record) for record in store.studies())


def _cleaning(
    store: Store, record: StudyRecord, files: KeptFiles, *, ours: bool = False
) -> Cleaning:
    disk, trials = disk_use(files, record.name), store.trials(record.name)
    if is_driven(record) and not ours:
        return Cleaning(record.name, disk, "it is being searched")
    if disk.problem:
        return Cleaning(record.name, disk, "the store does not answer; try again when it does")
    if why := _unfinished(store, record, trials):
        return Cleaning(record.name, disk, why)
    needed = _needed(store, record)
    keys = [
        training_key(record.name, trial.kind, trial.number)
        for trial in trials
        if _can_go(trial, needed)
    ]
    here = {key: training_files(files.folder, key) for key in keys}
    stored = {key: [name for name in disk.stored if name.startswith(f"{key}.")] for key in keys}
    if not (count := sum(bool(here[key] or stored[key]) for key in keys)):
        why = "all are of the front, of baselines, of stopped trials, of failed ones or exported"
        return Cleaning(record.name, disk, why)
    return Cleaning(
        record.name,
        disk,
        "the study is finished, and these are off the front, or finalists",
        count,
        tuple(chain.from_iterable(here.values())),
        tuple(chain.from_iterable(stored.values())),
    )


def _unfinished(store: Store, record: StudyRecord, trials: list[TrialRecord]) -> str:
    """Why a study may still need all of its checkpoints; empty where it is finished."""
    if any(trial.state == State.RUNNING for trial in trials):
        return "it was interrupted; search it to its end first, or delete it"
    budget = record.spec["budget"]["trials"]
    ended = sum(trial.kind == Kind.SEARCH and trial.state in ENDED for trial in trials)
    if ended < budget and not at_plateau(store, record):
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
