"""What a trained network does with the images of validation: measures for pictures, nothing is drawn here.

Every measure is plain numbers and short texts, so that it can be kept beside a trial's result and drawn anywhere.

Shapes: N images, G columns of gates, J sources of a mixture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from search.inspection_layers import AttentionMaps, LayerMoves, attention_maps, layer_moves, png_text
from search.inspection_pass import Seen, seen_images
from spaces.net import DynamicNet, Knobs, Rates
from trainers.augment import normalized
from trainers.data import ImageData
from trainers.execution import Execution

CLASSES = 24  # shown of more: half of them those with the lowest rates, half with the highest
PATTERNS = 12  # of layers, the most frequent ones


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured: images looked at, images run in many orders of layers, images shown and their side."""

    images: int = 1000
    moved: int = 256
    shown: int = 8  # cheapest, and as many dearest
    samples: int = 8  # under which attention is shown
    side: int = 96
    umap: bool = True


QUICK = Effort(images=512, moved=64, shown=6, samples=5, side=32, umap=False)  # beside a search: seconds at most


@dataclass(frozen=True)
class ClassRates:
    """Mean open rate of gates (columns, by depth) over the images of a class (rows, in `classes`)."""

    classes: list[str]
    gates: list[str]
    rates: list[list[float]]
    left_out: int  # classes


@dataclass(frozen=True)
class Pattern:
    """Which layers were run, a 1 or 0 each; share of images, their accuracy and mean MACs."""

    open: str
    share: float
    accuracy: float
    macs: float


@dataclass(frozen=True)
class Patterns:
    """The most frequent patterns of layer gates, and how many different ones there were."""

    gates: list[str]
    rows: list[Pattern]
    distinct: int


@dataclass(frozen=True)
class Mixtures:
    """Mean weights of each layer (from the second on) over its sources: the stem, then the layers before.

    `right` and `wrong` are of images answered so; None where there were none.
    """

    right: list[list[float]] | None
    wrong: list[list[float]] | None


@dataclass(frozen=True)
class ExitUse:
    """One exit: share of images that it answers, its accuracy on them, on all images, and MACs of leaving there."""

    name: str
    share: float
    accuracy: float | None  # None where it answers nobody
    accuracy_all: float
    macs: float


@dataclass(frozen=True)
class Exits:
    """Use of the exits in order of depth; `by_class` are shares by class (rows, in `classes`) and exit."""

    exits: list[ExitUse]
    classes: list[str]
    by_class: list[list[float]]


@dataclass(frozen=True)
class Shot:
    """One image as a base64 PNG, its class, the network's answer, and the MACs that it took."""

    png: str
    label: str
    answer: str
    macs: float


@dataclass(frozen=True)
class Extremes:
    """The images that took the least and the most MACs."""

    cheapest: list[Shot]
    dearest: list[Shot]


@dataclass(frozen=True)
class Attention:
    """Where exits look: sample images, and for each exit and sample a map as a base64 PNG, 0 its `low`, 255 `high`."""

    samples: list[Shot]
    exits: list[AttentionMaps]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All measures of one network under one setting; None is what does not apply to it."""

    images: int
    accuracy: float
    macs_mean: float
    plain_macs: int
    class_rates: ClassRates | None = None
    patterns: Patterns | None = None
    mixtures: Mixtures | None = None
    exits: Exits | None = None
    attention: Attention | None = None
    moves: LayerMoves | None = None
    extremes: Extremes | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspection_of(values: Any) -> Inspection | None:
    """The measures kept as JSON with a trial; None where there are none, or an older version's."""
    try:
        return TypeAdapter(Inspection).validate_python(values)
    except ValidationError:
        return None


@torch.inference_mode()
def inspected(
    net: DynamicNet,
    data: ImageData,
    knobs: Knobs,
    *,
    rates: Rates | None = None,
    execution: Execution | None = None,
    seed: int = 0,
    effort: Effort | None = None,
) -> Inspection:
    """Measure a trained network (put in eval mode) under the knobs on images of validation, in random order."""
    execution, effort = execution or Execution(), effort or Effort()
    net.eval()
    seen = seen_images(
        net, data, knobs, rates=rates, execution=execution, seed=seed, limit=effort.images, side=effort.side
    )
    pixels = execution.laid_out(normalized(seen.first, data.mean, data.std))
    with execution.autocast():
        maps = attention_maps(net, pixels[_samples(seen, effort)])
        moves = layer_moves(net, pixels[: effort.moved], seed=seed, umap=effort.umap)
    return Inspection(
        images=len(seen.label_N),
        accuracy=float(seen.correct_N.double().mean()),
        macs_mean=float(seen.macs_N.mean()),
        plain_macs=net.plain_macs,
        class_rates=_class_rates(seen, data.classes),
        patterns=_patterns(seen),
        mixtures=_mixtures(seen),
        exits=_exits(seen, data.classes),
        attention=Attention(_shots(seen, _samples(seen, effort), data), maps) if maps else None,
        moves=moves,
        extremes=_extremes(seen, data, effort.shown),
    )


def _class_rates(seen: Seen, classes: Sequence[str]) -> ClassRates | None:
    if not seen.gates:
        return None
    open_NG = torch.stack(list(seen.gates.values()), 1)
    present = seen.label_N.unique().tolist()
    rates = torch.stack([open_NG[seen.label_N == c].mean(0) for c in present])
    order = rates.mean(1).argsort(stable=True).tolist()
    shown = order if len(order) <= CLASSES else [*order[: CLASSES // 2], *order[-CLASSES // 2 :]]
    rows = [_rounded(rates[i]) for i in shown]
    return ClassRates([classes[present[i]] for i in shown], list(seen.gates), rows, len(order) - len(shown))


def _patterns(seen: Seen) -> Patterns | None:
    if not seen.layers:
        return None
    open_NG = torch.stack([seen.gates[name] for name in seen.layers], 1) > 0
    patterns = ["".join("01"[one] for one in row) for row in open_NG.tolist()]
    counts, rows = Counter(patterns), []
    for pattern, count in counts.most_common(PATTERNS):
        here = torch.tensor([one == pattern for one in patterns])
        accuracy = float(seen.correct_N[here].double().mean())
        rows.append(Pattern(pattern, count / len(patterns), accuracy, float(seen.macs_N[here].mean())))
    return Patterns(list(seen.layers), rows, len(counts))


def _mixtures(seen: Seen) -> Mixtures | None:
    if not seen.mixtures:
        return None
    means = []
    for here in (seen.correct_N, ~seen.correct_N):
        means.append([_rounded(w_NJ[here].mean(0)) for w_NJ in seen.mixtures] if bool(here.any()) else None)
    return Mixtures(*means)


def _exits(seen: Seen, classes: Sequence[str]) -> Exits | None:
    index_N = seen.exit_N
    if index_N is None:
        return None
    early = len(seen.exit_answers) - 1
    names = [*(f"exit{k}" for k in range(early)), "deepest"]
    used = []
    for k, name in enumerate(names):
        # the ensemble is asked by few, and has no answer of its own for the others
        here = index_N == k
        accuracy = float(seen.correct_N[here].double().mean()) if bool(here.any()) else None
        everywhere = float((seen.exit_answers[k] == seen.label_N).double().mean())
        cost = float(seen.exit_macs[k][here].mean() if bool(here.any()) else seen.exit_macs[k].max())
        used.append(ExitUse(name, float(here.double().mean()), accuracy, everywhere, cost))
    if bool((last := index_N > early).any()):
        share, accuracy = float(last.double().mean()), float(seen.correct_N[last].double().mean())
        used.append(ExitUse("ensemble", share, accuracy, used[-1].accuracy_all, used[-1].macs))
    present = seen.label_N.unique().tolist()
    table = torch.stack([torch.bincount(index_N[seen.label_N == c], minlength=len(used)) for c in present]).double()
    shares = (table / table.sum(1, keepdim=True))[:, : len(used)]
    depth = shares @ torch.arange(len(used), dtype=torch.float64)
    order = depth.argsort(stable=True).tolist()
    shown = order if len(order) <= CLASSES else [*order[: CLASSES // 2], *order[-CLASSES // 2 :]]
    return Exits(used, [classes[present[i]] for i in shown], [_rounded(shares[i]) for i in shown])


def _extremes(seen: Seen, data: ImageData, count: int) -> Extremes | None:
    order = seen.macs_N.argsort(stable=True).tolist()
    if seen.macs_N[order[0]] == seen.macs_N[order[-1]]:
        return None
    count = min(count, len(order) // 2)
    return Extremes(_shots(seen, order[:count], data), _shots(seen, order[: -count - 1 : -1], data))


def _samples(seen: Seen, effort: Effort) -> list[int]:
    """Images of the first batch, spread evenly from the cheapest to the dearest."""
    order = seen.macs_N[: len(seen.first)].argsort(stable=True).tolist()
    return [order[round(i)] for i in np.linspace(0, len(order) - 1, min(effort.samples, len(order)))]


def _shots(seen: Seen, chosen: Sequence[int], data: ImageData) -> list[Shot]:
    return [
        Shot(
            png_text(seen.small[i]),
            data.classes[int(seen.label_N[i])],
            data.classes[int(seen.answer_N[i])],
            float(seen.macs_N[i]),
        )
        for i in chosen
    ]


def _rounded(values: Tensor) -> list[float]:
    return [round(float(v), 3) for v in values]
