"""What a study maximises: metrics of accuracy as values.

An operating point's accuracy is the value of its study's metric. A new metric is one row of METRICS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainers.answers import TOP, Answers, Bools, Ints
from trainers.by_class import (
    balanced_accuracy,
    balanced_lead,
    better_balanced,
    better_f1,
    f1_lead,
    macro_f1,
    packed_answers,
)
from trainers.significance import Share, better_on_the_same, lead_on_the_same, wilson


@dataclass(frozen=True)
class Metric:
    """One metric: how study files call it and people read it, its value with the 95 % interval, and its paired test.

    `pack` keeps what one pass answers to each image, for `better`, which says whether the first of two networks is
    significantly better on the same images, by `test`. `lead` says how surely it is better by more than so much, in
    deviations; it is also given the first one's value. `guessing` and `constant` are what answers at random and always
    the same answer, `always`, have, from the number of images of each class (C,). `of_classes`: all classes count
    alike. `classes`: the fewest that it needs.
    """

    name: str
    label: str
    measure: Callable[[Answers], Share]
    pack: Callable[[Answers], bytes]
    better: Callable[[bytes, bytes], bool]
    lead: Callable[[bytes, bytes, float, float], float]
    test: str
    guessing: Callable[[Ints], float]
    constant: Callable[[Ints], float]
    always: str = "the largest class"
    of_classes: bool = False
    classes: int = 2

    def packed(self, answers: Answers) -> bytes | None:
        """What `better` reads; None over several passes, which differ."""
        return self.pack(answers) if len(answers.classes_PN) == 1 else None

    def check(self, classes: int) -> None:
        """Raise ValueError for images of too few classes."""
        if classes < self.classes:
            raise ValueError(
                f"objectives: {self.name}: needs images of {self.classes} classes or more, and there are {classes}; "
                "write accuracy"
            )


def packed_bits(right_N: Bools) -> bytes:
    """One bit an image, eight a byte, the last byte filled up with zeros."""
    return np.packbits(right_N).tobytes()


def _lead(first: bytes, second: bytes, value: float, least: float) -> float:
    """Of shares of images; how many images there are, the first one's share tells."""
    images = round(int.from_bytes(first).bit_count() / value) if value > 0 else 8 * len(first)
    return lead_on_the_same(first, second, images, least)


def _share(right_PN: Bools) -> Share:
    """The share of images, mean over passes, with the interval over draws of images of this number."""
    share = float(right_PN.mean())
    return Share(share, *wilson(share, right_PN.shape[1]))


def _guessed_f1(images_C: Ints) -> float:
    """Macro F1 of answers at random, or of always answering the largest class where that has more."""
    share_C = images_C[images_C > 0] / images_C.sum()
    at_random = float(np.mean(2 * share_C / (len(images_C) * share_C + 1)))
    return max(at_random, _constant_f1(images_C))


def _constant_f1(images_C: Ints) -> float:
    share = float(images_C.max() / images_C.sum())
    return 2 * share / (1 + share) / int((images_C > 0).sum())


ACCURACY = Metric(
    name="accuracy",
    label="accuracy",
    measure=lambda answers: _share(answers.right_PN),
    pack=lambda answers: packed_bits(answers.right_PN[0]),
    better=better_on_the_same,
    lead=_lead,
    test="McNemar's exact test",
    guessing=lambda images_C: 1 / len(images_C),
    constant=lambda images_C: float(images_C.max() / images_C.sum()),
)
BALANCED = Metric(
    name="balanced_accuracy",
    label="balanced accuracy",
    measure=balanced_accuracy,
    pack=packed_answers,
    better=better_balanced,
    lead=lambda first, second, _, least: balanced_lead(first, second, least),
    test="a test by random swaps of answers",
    guessing=lambda images_C: 1 / len(images_C),
    constant=lambda images_C: 1 / int((images_C > 0).sum()),
    of_classes=True,
)
MACRO_F1 = Metric(
    name="macro_f1",
    label="macro F1",
    measure=macro_f1,
    pack=packed_answers,
    better=better_f1,
    lead=lambda first, second, _, least: f1_lead(first, second, least),
    test="a test by random swaps of answers",
    guessing=_guessed_f1,
    constant=_constant_f1,
    of_classes=True,
)
TOP5 = Metric(
    name="top5_accuracy",
    label="top-5 accuracy",
    measure=lambda answers: _share(answers.top5_PN),
    pack=lambda answers: packed_bits(answers.top5_PN[0]),
    better=better_on_the_same,
    lead=_lead,
    test="McNemar's exact test",
    guessing=lambda images_C: TOP / len(images_C),
    constant=lambda images_C: float(np.sort(images_C)[-TOP:].sum() / images_C.sum()),
    always="the five largest classes",
    classes=TOP + 1,
)
METRICS: dict[str, Metric] = {one.name: one for one in (ACCURACY, BALANCED, MACRO_F1, TOP5)}
