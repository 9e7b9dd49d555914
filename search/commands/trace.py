"""The stored tracebacks of a training: of every attempt that went wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from storage.records import TRAININGS, FailureRecord, Kind, StudyRecord, training_text
from storage.store import Store

Training = tuple[Kind, int]
NAME = re.compile(rf"(?:({'|'.join(TRAININGS.values())})[- ])?(\d+)")


def training_of(name: str) -> Training:
    """A training by name: 3, trial-3, baseline-2, finalist-1. Raises ValueError."""
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"--trace {name}: give a trial's number, or baseline-2, finalist-1")
    kinds = {word: kind for kind, word in TRAININGS.items()}
    return kinds[found[1] or TRAININGS[Kind.SEARCH]], int(found[2])


def trace_name(kind: Kind, number: int) -> str:
    """What `--trace` takes for a training: 3, baseline-2, finalist-1."""
    return str(number) if kind == Kind.SEARCH else f"{TRAININGS[kind]}-{number}"


def attempts(store: Store, record: StudyRecord, training: Training) -> list[FailureRecord]:
    """The attempts of a training that went wrong, the first first. Raises ValueError when there is none."""
    failures = store.failures(record.name)
    own = [failure for failure in failures if (failure.kind, failure.trial) == training]
    if not own:
        known = dict.fromkeys(trace_name(failure.kind, failure.trial) for failure in failures)
        others = ", ".join(known) or "none"
        raise ValueError(
            f"{training_text(*training)} of study {record.name} has not failed; failed: {others}"
        )
    return own


def as_text(failures: Sequence[FailureRecord]) -> str:
    """The attempts for people: when, in which epoch, why, and the traceback where there is one."""
    return "\n".join(
        _attempt(failure, f"attempt {i} of {len(failures)}")
        for i, failure in enumerate(failures, 1)
    )


def as_dicts(failures: Sequence[FailureRecord]) -> list[dict[str, Any]]:
    """The attempts for programs: kind, trial, epoch, error, trace, and the time as ISO 8601."""
    return [{**asdict(failure), "at": failure.at.isoformat()} for failure in failures]


def _attempt(failure: FailureRecord, which: str) -> str:
    when = "before its first epoch" if failure.epoch is None else f"in epoch {failure.epoch}"
    name = training_text(failure.kind, failure.trial)
    trace = failure.trace.rstrip() or "(no traceback: the reason says all)"
    return f"{name}, {which}: failed {when}, {failure.at:%Y-%m-%d %H:%M:%S} UTC\n{failure.error}\n\n{trace}\n"
