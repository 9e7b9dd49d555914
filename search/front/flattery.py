"""By how much choosing on the validation images flatters the accuracy of what is chosen.

Two parts. Thresholds of exits and cascades are chosen on the images that also measure them: each point keeps an
estimate from halves of these (see search.measure.exit_points), and the mean of a front is far less noisy than one of
them. And a pick is the luckiest of many points, which is seen by picking again on resampled images. How near test is
to what both leave: benchmarks/picks.py.

Shapes: P points, N images, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.front.metric import metric_of
from storage.records import Kind, OperatingPoint, PointRecord
from trainers.answers import Answers
from trainers.by_class import unpacked
from trainers.metrics import Metric

RESAMPLES = 100
Pick = Callable[[Sequence[PointRecord], Sequence[PointRecord]], PointRecord]


def flattery(points: Iterable[PointRecord]) -> dict[Kind, float]:
    """What choosing thresholds flatters points of each kind, mean over the points that have an estimate; at least 0."""
    known: dict[Kind, list[float]] = {}
    for p in points:
        if (one := p.extra.get("selection_bias")) is not None:
            known.setdefault(p.kind, []).append(float(one))
    return {kind: max(0.0, sum(own) / len(own)) for kind, own in known.items()}


class Expected(NamedTuple):
    """The accuracy to be expected of a pick on other images, and what was subtracted for it from its measured one."""

    accuracy: float
    thresholds: float
    picking: float


def expected(
    point: PointRecord,
    members: Sequence[PointRecord],
    baselines: Sequence[PointRecord],
    pick: Pick | None,
) -> Expected | None:
    """What to expect of the point, which `pick` chose from the front's members and the baselines; None: a person did.

    After Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the out-of-sample predictions for efficient and
    accurate cross-validation", Machine Learning, 2018: the choice is made again on resampled images. Here what it gains
    there over all images is subtracted; they measure on the images that a resample left out, which expected too little.
    Where all points are truly alike, about three tenths of the luck stay unseen.
    None where it was not kept what points answer.
    """
    thresholds = flattery(members).get(point.kind, 0.0)
    if pick is None:
        return Expected(max(0.0, point.accuracy - thresholds), thresholds, 0.0)
    known = [*members, *baselines]
    if any(p.right is None for p in known):
        return None
    gained = []
    for again in _resampled(known):
        try:
            chosen = pick(again[: len(members)], again[len(members) :])
        except ValueError:  # no point is within the limits, on these images
            continue
        before = next(p for p, q in zip(known, again, strict=True) if q is chosen)
        gained.append(chosen.accuracy - before.accuracy)
    picking = max(0.0, float(np.mean(gained))) if gained else 0.0
    return Expected(max(0.0, point.accuracy - thresholds - picking), thresholds, picking)


def _resampled(points: Sequence[PointRecord]) -> Iterable[list[PointRecord]]:
    """The points as they are on RESAMPLES draws of as many images, with replacement."""
    metric, draws = metric_of(points), np.random.default_rng(0)
    answers = [_answers(p, metric) for p in points]
    images = min(len(one.labels_N) for one in answers)
    for _ in range(RESAMPLES):
        rows_N = draws.integers(0, images, images)
        yield [_of(p, one, rows_N, metric) for p, one in zip(points, answers, strict=True)]


def _of(p: PointRecord, answers: Answers, rows_N: NDArray[np.int64], metric: Metric) -> PointRecord:
    drawn = Answers(
        answers.classes_PN[:, rows_N], answers.top5_PN[:, rows_N], answers.labels_N[rows_N]
    )
    return replace(p, accuracy=metric.measure(drawn).value, right=metric.packed(drawn))


def _answers(p: OperatingPoint, metric: Metric) -> Answers:
    """What was kept of a point's answers; of shares of images only whether each is right, here the class 1, else 0."""
    stored = p.right or b""
    if metric.of_classes:
        labels_N, answers_N = unpacked(stored)
        return Answers(answers_N[None], np.zeros((1, len(labels_N)), np.bool_), labels_N)
    right_N = np.unpackbits(np.frombuffer(stored, np.uint8)) == 1
    # with none right, the bits that fill up the last byte stay, and are wrong as all others are
    if p.accuracy > 0:
        right_N = right_N[: round(int(right_N.sum()) / p.accuracy)]
    return Answers(right_N[None].astype(np.int64), right_N[None], np.ones(len(right_N), np.int64))
