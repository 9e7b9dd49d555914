"""The members that cascades of a study may have: operating points whose answers to the validation images were kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from search.front.eligible import eligible
from search.measure.cascade_tables import MemberTable, room_for, worth_joining
from search.objectives import Reference
from search.run.answer_files import read_answers
from search.run.jobs import job_of
from search.spec import StudySpec
from storage.checkpoint_files import answers_file
from storage.kept_files import KeptFiles
from storage.records import Kind, PointRecord, State, TrialRecord
from storage.store import Store


@dataclass(frozen=True)
class Member:
    """An operating point, what it answers to the validation images, and its training."""

    point: PointRecord
    trial: TrialRecord
    logits: Tensor  # (N, C) float16
    macs: Tensor  # (N,)
    labels: Tensor  # (N,)


def trainings_with_answers(store: Store, spec: StudySpec, files: KeptFiles) -> list[TrialRecord]:
    """The complete trainings whose answers were kept, on whichever machine."""
    trained = [
        trial
        for trial in store.trials(spec.study, state=State.COMPLETE, results=False)
        if trial.kind in (Kind.SEARCH, Kind.BASELINE) and trial.of_trial is None
    ]
    known = files.names(spec.study)
    return [one for one in trained if files.name(_file(spec, one, files)) in known]


def members_of(
    store: Store, spec: StudySpec, trainings: Sequence[TrialRecord], files: KeptFiles
) -> list[Member]:
    """The members that are worth searching, as many as there is time and memory for."""
    reference = Reference(**store.study(spec.study).reference)
    points: dict[tuple[Kind, int], dict[str, PointRecord]] = {}
    for p in eligible(store.points(spec.study), reference):
        points.setdefault(p.training, {})[_key(p.knobs)] = p
    found: list[Member] = []
    for trial in trainings:
        file = _file(spec, trial, files)
        files.fetch(file)
        answers = read_answers(file)
        own = points.get((trial.kind, trial.number), {})
        if answers is None or (found and not torch.equal(answers.labels, found[0].labels)):
            continue
        for knobs, logits, macs in zip(answers.knobs, answers.logits, answers.macs, strict=True):
            if point := own.get(_key(knobs)):
                found.append(Member(point, trial, logits, macs, answers.labels))
    return _worth(found)


def _worth(members: list[Member]) -> list[Member]:
    if not members:
        return []
    room = room_for(*members[0].logits.shape)
    accuracy = np.array([m.point.top1 for m in members])
    macs = np.array([m.point.macs_mean for m in members])
    return [members[i] for i in worth_joining(accuracy, macs, room)]


def table_of(members: Sequence[Member]) -> MemberTable:
    """What cascades are searched on."""
    trainings = sorted({m.point.training for m in members})
    return MemberTable(
        torch.stack([m.logits.float().softmax(1) for m in members]),
        torch.stack([m.macs for m in members]).double().numpy(),
        members[0].labels.numpy(),
        np.array([trainings.index(m.point.training) for m in members]),
        np.array([m.point.macs_max for m in members], dtype=np.float64),
        np.array([m.point.parameters for m in members], dtype=np.float64),
    )


def _file(spec: StudySpec, trial: TrialRecord, files: KeptFiles) -> Path:
    return answers_file(files.folder, job_of(spec, trial, str(files.folder)).key)


def _key(knobs: object) -> str:
    return json.dumps(knobs, sort_keys=True)
