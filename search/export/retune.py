"""Thresholds of an exported model chosen again on other labelled images; its weights stay as they are.

Half of the images choose, the other half says what came of it.

Shapes: B images of a batch, N images, K early exits (row K is the deepest head).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.export.curve import LARGEST
from search.export.measures import Counts
from search.export.model import Model
from search.measure.exit_grid import ExitTable
from search.measure.exit_thresholds import exhaustive_front, exit_outcomes, quantile_levels
from search.report.front_points import thinned
from spaces.contract.exit_rules import ExitRule
from spaces.deploy.generic import Deployed
from spaces.deploy.thresholds import is_exit
from trainers.answers import Answers
from trainers.data.formats import image_files
from trainers.evaluate import top_answers
from trainers.metrics import METRICS, Metric

BATCH = 64
FEWEST = 40  # images, of which half choose
SHIFTS = (
    -3.0,
    -2.0,
    -1.0,
    -0.5,
    -0.25,
    -0.1,
    0.0,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    3.0,
)  # of a gate's logit
MOST_LEVELS = 12  # of one exit's thresholds


@dataclass(frozen=True)
class Labelled:
    """Images as the model takes them, (N, channels, height, width) in [0, 1], and their classes (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, rows: Tensor) -> Labelled:
        return Labelled(self.pixels[rows], self.labels[rows])

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.pixels.split(BATCH), self.labels.split(BATCH), strict=True)

    def halves(self) -> tuple[Labelled, Labelled]:
        """Two random halves, the same ones each time."""
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(self)))
        return self.some(order[::2]), self.some(order[1::2])


def read_labelled(model: Model, folder: Path) -> Labelled:
    """The images in folders that are named as the model's classes. Raises ValueError with what is wrong."""
    names = (
        sorted(child.name for child in folder.iterdir() if child.is_dir())
        if folder.is_dir()
        else []
    )
    if not names:
        raise ValueError(f"{folder}: holds no folders of images; put them into {folder}/CLASS/")
    strange = [name for name in names if name not in model.classes]
    if strange:
        known = ", ".join(model.classes[:5])
        raise ValueError(f"{folder / strange[0]}: is no class of the model, which has {known} ...")
    pixels, labels = [], []
    for name in names:
        for file in image_files(folder / name)[0]:
            pixels.append(model.pixels(Path(file)))
            labels.append(model.classes.index(name))
    if len(labels) < FEWEST:
        raise ValueError(f"{folder}: has {len(labels)} images; choosing thresholds takes {FEWEST}")
    return Labelled(torch.cat(pixels), torch.tensor(labels))


@dataclass(frozen=True)
class Candidate:
    """Thresholds, and what they give on the images that choose; accuracy is the study's metric."""

    thresholds: list[float]
    accuracy: float
    macs: float


@torch.inference_mode()
def candidates(
    model: Model, images: Labelled, points: Sequence[dict[str, Any]], metric: Metric
) -> list[Candidate]:
    """Thresholds that no other candidate beats on these images, cheapest first; the file's own are tried too."""
    net = model.net
    own = list(net.thresholds.values())
    vectors = [own, *(list(point["thresholds"]) for point in points)]
    if isinstance(net, Deployed) and net.policy.exits is not None and net.ends_at != 0:
        found = _of_exits(net, images, vectors, metric)
    else:
        vectors += [[_moved(value, shift) for value in own] for shift in SHIFTS]
        found = []
    return _front([*found, *(_measured(model, images, vector, metric) for vector in vectors)])


def few_of(found: Sequence[Candidate], chosen: Candidate) -> list[Candidate]:
    """At most as many of a front's candidates as a file carries, the chosen one among them."""
    some = thinned(found, LARGEST - 1)
    return [one for one in found if one is chosen or any(one is other for other in some)]


def _front(found: Sequence[Candidate]) -> list[Candidate]:
    kept: list[Candidate] = []
    for one in sorted(found, key=lambda one: (one.macs, -one.accuracy)):
        if not kept or one.accuracy > kept[-1].accuracy:
            kept.append(one)
    return kept


def _measured(model: Model, images: Labelled, thresholds: list[float], metric: Metric) -> Candidate:
    found = held_out(model, images, thresholds, metric)
    return Candidate(thresholds, found["accuracy"], found["macs_mean"])


def _of_exits(
    net: Deployed, images: Labelled, known: Sequence[Sequence[float]], metric: Metric
) -> list[Candidate]:
    """From a grid at quantiles of each exit's confidence, and of known thresholds moved; gates stay at theirs."""
    rule = net.policy.exits
    assert rule is not None
    gates = [value for name, value in net.thresholds.items() if not is_exit(name)]
    heads = _heads(net, rule, images)
    table = heads.table
    exits = table.exits + (table.deepest is not None)
    grid = table if table.deepest is None else table.with_deepest()
    count = max(3, min(MOST_LEVELS, int(len(images) ** (1 / exits))))
    levels = quantile_levels(grid, count)
    if table.deepest is not None:
        del levels[-1][0]  # at which the ensemble never answers: the file is of one that does
    vectors = [list(one.thresholds) for one in exhaustive_front(grid, levels, rule.fallback)]
    among = [list(own[len(gates) : len(gates) + exits]) for own in known]
    vectors += [[_moved(value, shift) for value in own] for own in among for shift in SHIFTS]
    # of the network's own head where it has none to choose, and of the exit at which all images leave
    rest = list(net.thresholds.values())[len(gates) + exits :]
    return [
        Candidate([*gates, *vector, *rest], *heads.given(vector, rule.fallback, metric))
        for vector in vectors
    ]


@dataclass(frozen=True)
class _Heads:
    """What each exit, the deepest head and the ensemble answer, in this order: classes and top-5, (K + 2, N)."""

    table: ExitTable
    classes: NDArray[np.int64]
    top5: NDArray[np.bool_]
    labels: NDArray[np.int64]

    def given(
        self, thresholds: Sequence[float], fallback: str, metric: Metric
    ) -> tuple[float, float]:
        """The metric, and mean MACs, at thresholds of the exits."""
        _, macs_N, index_N = exit_outcomes(self.table, thresholds, fallback)
        at = index_N, np.arange(len(index_N))
        answers = Answers(self.classes[at][None], self.top5[at][None], self.labels)
        return metric.measure(answers).value, float(macs_N.mean())


def _heads(net: Deployed, rule: ExitRule, images: Labelled) -> _Heads:
    """One pass in which nobody leaves."""
    confidence, answers, top5, macs = [], [], [], []
    for pixels, labels_B in images.batches():
        logits, paid = net.every_exit(pixels)
        early = len(logits) - 1
        # the last head may have a threshold of its own, but not where all images that come there leave
        sure_at = early if net.ends_at is not None else len(rule.thresholds)
        rows = [rule.confidence(k, logits[: k + 1]).double() for k in range(sure_at)]
        confidence.append(torch.stack(rows))
        said = [top_answers(one, labels_B) for one in (*logits, torch.stack(logits).mean(0))]
        answers.append(torch.stack([answer_B for answer_B, _ in said]))
        top5.append(torch.stack([among_B for _, among_B in said]))
        macs.append(torch.stack([one.expand(len(pixels)) for one in paid]))
    sure, classes = torch.cat(confidence, 1).numpy(), torch.cat(answers, 1).numpy()
    right = classes == images.labels.numpy()
    table = ExitTable(
        sure[:early],
        right[:-1],
        torch.cat(macs, 1).numpy(),
        right[-1],
        sure[early] if len(sure) > early else None,
    )
    return _Heads(table, classes, torch.cat(top5, 1).numpy(), images.labels.numpy())


def _moved(value: float, shift: float) -> float:
    """The threshold at another place on the scale of logits; one that is 0 or 1 stays."""
    if not 0 < value < 1:
        return value
    return 1 / (1 + math.exp(-(math.log(value / (1 - value)) + shift)))


def within(found: Sequence[Candidate], max_macs: float) -> Candidate:
    """The most accurate candidate of at most so many MACs; where none is that cheap, the cheapest."""
    allowed = [one for one in found if one.macs <= max_macs]
    return max(allowed, key=lambda one: one.accuracy) if allowed else found[0]


@torch.inference_mode()
def held_out(
    model: Model, images: Labelled, thresholds: list[float], metric: Metric
) -> dict[str, Any]:
    """Accuracy and cost on images that chose nothing, as `Counts` gives them."""
    counts = Counts()
    for pixels, labels_B in images.batches():
        logits_BC, macs_B = model.net.run(pixels, thresholds)
        counts.add(logits_BC, labels_B, macs_B.expand(len(pixels)))
    return counts.accuracy_and_cost(metric)


def metric_of(model: Model) -> Metric:
    """What the study that trained the model maximised."""
    return METRICS[model.description["report"]["metric"]]
