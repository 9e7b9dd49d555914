"""Small jobs for engines, and what becomes of them."""

from __future__ import annotations

import time
from pathlib import Path

from search.run.engine import Engine
from search.run.job import Doing, Event, Job
from trainers.data.splits import DataSpec
from trainers.fit import EpochResult

PARAMS = {"backbone": "resnet8", "width": 0.25, "batch": 32, "granularity": "joint"}


def job(folder: Path, number: int = 0, epochs: int = 2, **values: object) -> Job:
    return Job(
        kind="search",
        number=number,
        family="gated_resnet",
        params=PARAMS | values,
        epochs=epochs,
        seed=number,
        data=DataSpec(source="digits", validation=0.2, train_limit=96),
        checkpoints=str(folder),
        key=f"s/search-{number:04d}",
        precision="float32",
        threads=1,
    )


def drained(engine: Engine, count: int, seconds: float = 120) -> list[tuple[Job, Event]]:
    """Everything that happens until `count` trials have ended or wait for an answer, but for what they do meanwhile."""
    found: list[tuple[Job, Event]] = []
    end = time.monotonic() + seconds
    while sum(not isinstance(e, EpochResult) for _, e in found) < count:
        assert time.monotonic() < end, found
        happened = engine.next_event(1.0)
        if happened and not isinstance(happened[1], Doing):
            found.append(happened)
    return found


def kinds(found: list[tuple[Job, Event]]) -> list[type[Event]]:
    return [type(event) for _, event in found]
