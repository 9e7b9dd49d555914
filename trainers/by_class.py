"""Metrics in which all classes count alike, however many images they have: balanced accuracy and macro F1.

A class without any label among the images is left out: nothing is known of it.

Shapes: P passes, N images, C classes, K of them with labels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from trainers.answers import Answers, Ints
from trainers.significance import (
    Share,
    Z,
    better_by_swaps,
    lead_of_gains,
    mean_of_shares,
    wilson,
)

Floats = NDArray[np.float64]
NUMBER = np.dtype("<u2")  # of a class, as it is packed


def balanced_accuracy(answers: Answers) -> Share:
    """The mean over classes of the share of a class's images that is answered rightly; passes count as one.

    Its interval is that of a mean of independent shares, see `mean_of_shares`.
    """
    images_C = np.bincount(answers.labels_N)
    right_C = np.bincount(answers.labels_N, answers.right_PN.mean(0))
    return mean_of_shares(
        [_share(right / n, n) for right, n in zip(right_C, images_C, strict=True) if n]
    )


def macro_f1(answers: Answers) -> Share:
    """The mean over classes of F1, the harmonic mean of precision and recall; of several passes the mean.

    The interval is by the delta method: Takahashi, Yamamoto, Kuchiba and Koyama, "Confidence interval for
    micro-averaged F1 and macro-averaged F1 scores", Applied Intelligence, 2022. That has no width where all answers are
    right. So it is made at least as wide as that of a mean of independent F1s, each a function of the share of right
    answers among the images that are of the class or are taken for it.
    """
    rows = [_macro_f1(answers.labels_N, own_N) for own_N in answers.classes_PN]
    return Share(*(float(value) for value in np.mean(rows, 0)))


def _macro_f1(labels_N: Ints, answers_N: Ints) -> Share:
    counts = _Counts.of(labels_N, answers_N, _classes(labels_N, answers_N))
    concerned_C = counts.sizes_C - counts.right_C
    f1s = []
    for known, right, n in zip(counts.known_C, counts.right_C, concerned_C, strict=True):
        if known:
            f1s.append(Share(*(2 * share / (1 + share) for share in _share(right / n, n))))
    value, low, high = mean_of_shares(f1s)
    variance = float((counts.influence(labels_N, answers_N) ** 2).mean()) / len(labels_N)
    reach = Z * sqrt(variance)
    return Share(value, max(0.0, min(low, value - reach)), min(1.0, max(high, value + reach)))


def _share(share: float, images: float) -> Share:
    return Share(float(share), *wilson(float(share), int(images)))


@dataclass(frozen=True)
class _Counts:
    """By class: whether it has labels, right answers, and how many images are of it plus how many are taken for it."""

    known_C: NDArray[np.bool_]
    right_C: Floats
    sizes_C: Floats

    @classmethod
    def of(cls, labels_N: Ints, answers_N: Ints, classes: int) -> _Counts:
        def count(numbers: Ints) -> Floats:
            return np.bincount(numbers, minlength=classes).astype(float)

        own_C, right_C = count(labels_N), count(labels_N[labels_N == answers_N])
        return cls(own_C > 0, right_C, own_C + count(answers_N))

    def influence(self, labels_N: Ints, answers_N: Ints) -> Floats:
        """(N,) the derivative of macro F1 by each image's share of all images; its mean is 0 for the counted images."""
        unit_C = self.known_C * len(labels_N) / np.maximum(self.sizes_C, 1)
        lost_C = unit_C * 2 * self.right_C / np.maximum(self.sizes_C, 1)
        gained_N = 2 * unit_C[labels_N] * (labels_N == answers_N)
        found: Floats = gained_N - lost_C[labels_N] - lost_C[answers_N]
        return found / self.known_C.sum()


def _classes(*numbers: Ints) -> int:
    return 1 + max(int(own.max()) for own in numbers)


def packed_answers(answers: Answers) -> bytes:
    """The labels and what one pass answers; `unpacked` reads it. Errors alone take room where most is right."""
    answers_N = np.where(answers.right_PN[0], 0, answers.classes_PN[0] + 1)
    return zlib.compress(np.stack([answers.labels_N, answers_N]).astype(NUMBER).tobytes())


def unpacked(stored: bytes) -> tuple[Ints, Ints]:
    """(labels, answers) of `packed_answers`."""
    labels_N, other_N = (
        np.frombuffer(zlib.decompress(stored), NUMBER).astype(np.int64).reshape(2, -1)
    )
    return labels_N, np.where(other_N == 0, labels_N, other_N - 1)


def better_balanced(first: bytes, second: bytes) -> bool:
    """Whether the first network's balanced accuracy is significantly higher on the same images."""
    return better_by_swaps(_gained_balanced(first, second)[0])


def balanced_lead(first: bytes, second: bytes, least: float) -> float:
    """How surely the first network's balanced accuracy is above the second's by more than `least`, in deviations."""
    gained_N, classes = _gained_balanced(first, second)
    return lead_of_gains(gained_N / classes, least)


def _gained_balanced(first: bytes, second: bytes) -> tuple[Floats, int]:
    """(N,) by how much the first network is better on each image, with the weight of its class; how many classes."""
    labels_N, ours_N = unpacked(first)
    _, theirs_N = unpacked(second)
    images_C = np.bincount(labels_N)
    gained_N = (ours_N == labels_N).astype(float) - (theirs_N == labels_N)
    return gained_N * (1 / np.maximum(images_C, 1))[labels_N], int((images_C > 0).sum())


def better_f1(first: bytes, second: bytes) -> bool:
    """Whether the first network's macro F1 is significantly higher on the same images.

    To first order around what both networks together answer, which swapping their answers leaves as it is.
    """
    return better_by_swaps(_gained_f1(first, second))


def f1_lead(first: bytes, second: bytes, least: float) -> float:
    """How surely the first network's macro F1 is above the second's by more than `least`, in deviations."""
    gained_N = _gained_f1(first, second)
    return lead_of_gains(gained_N / len(gained_N), least)


def _gained_f1(first: bytes, second: bytes) -> Floats:
    labels_N, ours_N = unpacked(first)
    _, theirs_N = unpacked(second)
    classes = _classes(labels_N, ours_N, theirs_N)
    own, other = (_Counts.of(labels_N, one_N, classes) for one_N in (ours_N, theirs_N))
    both = _Counts(
        own.known_C, (own.right_C + other.right_C) / 2, (own.sizes_C + other.sizes_C) / 2
    )
    return both.influence(labels_N, ours_N) - both.influence(labels_N, theirs_N)
