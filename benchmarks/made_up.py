"""A study with as many finished trials as wanted, made up and written straight into the tables: for measures of load.

Trials have what real ones have: candidates drawn from the space, epochs, and operating points that trade accuracy for
compute, each with its answers to the validation images.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from search.objectives import Reference
from search.schedule.growth import Draw
from search.schedule.sampler import draw_candidate
from search.spec import StudySpec, narrowed_spaces, parse_study
from spaces.contract.family import Candidate
from storage.records import EpochRecord, Kind, OperatingPoint
from storage.store import Store

TEXT = (
    "study: {name}\ndata: digits\nfamilies: [gated_resnet]\nbudget: {{trials: {trials}, epochs: {epochs}}}\n"
    "warm_start: false\nearly_stopping: false\n"  # every trial a training from scratch, to its end
)
REFERENCE = Reference(accuracy=0.1, macs=5e7)
GATES = [f"block{i}.layer" for i in range(9)]  # of a ResNet-20
POINTS = 30  # operating points a trial, as a real sweep has
IMAGES = 1000  # validation images
INSPECTION = {"images": 512, "extremes": "x" * 40_000}  # about as much as pictures take
MEASURES = (
    "train/loss",
    "train/accuracy",
    "train/macs",
    "val/accuracy",
    "val/macs",
    "gates/open",
)


def made_up_study(store: Store, name: str, trials: int, epochs: int) -> StudySpec:
    """A study without trials yet, in the store; `trials` is its budget."""
    text = TEXT.format(name=name, trials=trials, epochs=epochs)
    spec = parse_study(text, "made_up.yml")
    store.add_study(name, spec.model_dump(mode="json"), text, REFERENCE.as_dict())
    return spec


def fill(store: Store, spec: StudySpec, trials: int, *, stored_epochs: int = 0) -> None:
    """Finished trials of random candidates, as a study that has run for long holds them."""
    for number, candidate in enumerate(candidates(spec, trials)):
        draw, epochs = random.Random(number), spec.budget.epochs
        name = spec.study, Kind.SEARCH, number
        store.add_trial(*name, candidate.family.name, dict(candidate.params), number, epochs)
        for epoch in range(1, stored_epochs + 1):
            store.add_epoch(*name, EpochRecord(epoch, *epoch_values(draw)))
        result = {"parameters": 270_000, "plain_macs": 40_000_000, "inspection": INSPECTION}
        store.finish_trial(*name, points=curve(draw), result=result, seconds=1.0)


def candidates(spec: StudySpec, count: int) -> Iterator[Candidate]:
    """Drawn at random, each from its number."""
    spaces = narrowed_spaces(spec)
    for number in range(count):
        draw = Draw(np.random.default_rng(number))
        yield draw_candidate(draw, spaces, lambda _: spec.budget.epochs)


def epoch_values(draw: random.Random) -> tuple[dict[str, float], dict[str, float]]:
    """What an epoch measured, and the open rate of each gate."""
    return {name: draw.random() for name in MEASURES}, {gate: draw.random() for gate in GATES}


def curve(draw: random.Random) -> list[OperatingPoint]:
    """The operating points of one training: more compute, more accuracy; some trainings are better than others."""
    most, rate = draw.uniform(0.7, 0.9), draw.uniform(4, 9)
    full = draw.uniform(1e7, 4e7)
    shares = sorted(draw.uniform(0.1, 1.0) for _ in range(POINTS))
    return [
        _point(draw, share * full, most * (1 - 2 ** (-rate * share)), chosen=i == 0)
        for i, share in enumerate(shares)
    ]


def _point(draw: random.Random, macs: float, accuracy: float, *, chosen: bool) -> OperatingPoint:
    right = np.random.default_rng(draw.randrange(2**32)).random(IMAGES) < accuracy
    measured = float(right.mean())
    return OperatingPoint(
        knobs={"policy": "threshold", "tau": 0.5},
        accuracy=measured,
        accuracy_low=measured - 0.025,
        accuracy_high=min(1.0, measured + 0.025),
        macs_mean=macs,
        macs_p95=macs * 1.1,
        macs_max=macs * 1.2,
        parameters=270_000,
        chosen=chosen,
        extra={"rates": {gate: [draw.random()] for gate in GATES}, "accuracy_std": 0.0},
        right=np.packbits(right).tobytes(),
    )
