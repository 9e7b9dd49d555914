"""Hypervolumes over resampled validation images: how far a front's could be by the luck of the images alone.

Efron, "Bootstrap Methods: Another Look at the Jackknife", The Annals of Statistics, 1979. Which points are on the front
stays as it is. Shapes: P points, N images, C costs, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.front.curves import ReferencePoint, volume
from search.front.metric import metric_of
from search.objectives import Costs
from storage.records import PointRecord
from trainers.answers import Answers
from trainers.by_class import unpacked
from trainers.metrics import Metric

RESAMPLES = 1000
RESAMPLES_BY_CLASS = 300  # of metrics in which classes count alike, which take longer
ENDS = (2.5, 97.5)  # percentiles of a 95 % interval

Floats = NDArray[np.float64]


def interval(values_R: Floats) -> tuple[float, float]:
    """The 95 % interval that resamples give."""
    low, high = np.percentile(values_R, ENDS)
    return float(low), float(high)


def resampled_volumes(
    points: Sequence[PointRecord], costs: Costs, corner: ReferencePoint, seed: int
) -> Floats | None:
    """(R,) hypervolumes of the points; None where it was not kept what they answer.

    Of two studies on the same images, the same seed gives both the same resamples.
    """
    if any(p.right is None for p in points):
        return None
    metric = metric_of(points)
    resampled = _by_class if metric.of_classes else _by_image
    accuracy_PR = resampled(points, metric, np.random.default_rng(seed))
    cost_PC = np.array([[cost.of(p) for cost in costs] for p in points]).reshape(len(points), -1)
    return np.array(
        [volume(corner.curve(np.column_stack([own_P, cost_PC]))) for own_P in accuracy_PR.T]
    )


def _by_image(points: Sequence[PointRecord], _: Metric, draws: np.random.Generator) -> Floats:
    """(P, R) shares of images that are answered rightly."""
    right_PN = _right(points)
    count = right_PN.shape[1]
    times_RN = draws.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    found: Floats = right_PN.astype(np.float64) @ times_RN.T / count
    return found


def _right(points: Sequence[PointRecord]) -> NDArray[np.uint8]:
    """(P, N) whether each image is answered rightly. How many images there were, the best accuracy tells."""
    bits = [np.unpackbits(np.frombuffer(p.right or b"", np.uint8)) for p in points]
    best = max(range(len(points)), key=lambda i: points[i].accuracy)
    count = round(int(bits[best].sum()) / points[best].accuracy)
    return np.stack(bits)[:, :count]


def _by_class(points: Sequence[PointRecord], metric: Metric, draws: np.random.Generator) -> Floats:
    """(P, R) values of a metric in which all classes count alike."""
    answers = [unpacked(p.right or b"") for p in points]
    count = len(answers[0][0])
    rows_RN = draws.integers(0, count, size=(RESAMPLES_BY_CLASS, count))
    return np.array(
        [[_value(metric, labels_N[own], answer_N[own]) for own in rows_RN] for labels_N, answer_N in answers]
    )  # fmt: skip


def _value(metric: Metric, labels_N: NDArray[np.int64], answers_N: NDArray[np.int64]) -> float:
    top5_PN = np.zeros((1, len(labels_N)), np.bool_)  # not kept, and not asked for by these metrics
    return metric.measure(Answers(answers_N[None], top5_PN, labels_N)).value
