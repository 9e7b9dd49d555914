"""Networks that were trained apart, each alone, merged layer by layer, and all asked together.

Freiberger, Kun, Løvlie and Risi, "LayerShuffle: Enhancing Robustness in Vision Transformers by Randomizing Layer
Execution Order", 2024: layer l of a merged model is that of network pi(l). Differs: see spaces.transformers.merging.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.transformers.merging import donors_of, ensemble, merged
from trainers.data.splits import ImageData
from trainers.evaluate import evaluate
from trainers.execution import Execution

IN_ORDER, IN_ANY = Knobs(policy="always_on"), Knobs(policy="always_on", order="arbitrary")

TOLD_EVERY = 10  # models


@dataclass(frozen=True)
class Accuracies:
    """Of networks of one kind, in the order of their numbers: layers as built, and in a new order each batch."""

    sequential: tuple[float, ...]
    arbitrary: tuple[float, ...]


@dataclass(frozen=True)
class MergedModels:
    """`donors[m][l]` is the network that layer l of merged model m comes from. Accuracies are of validation images."""

    images: int
    donors: tuple[tuple[int, ...], ...]
    alone: Accuracies
    merged: Accuracies
    ensemble: Accuracies

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def merged_models(
    nets: Sequence[DynamicNet],
    data: ImageData,
    *,
    models: int,
    seed: int = 0,
    execution: Execution | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> MergedModels:
    """Measure so many merged models of these networks. Raises ValueError for networks that cannot be merged."""
    layers = nets[0].movable_layers
    donors = tuple(donors_of(seed, draw, layers, len(nets)) for draw in range(models))

    def accuracies(some: Sequence[DynamicNet]) -> Accuracies:
        found = [
            tuple(
                evaluate(net, data.validation, data, knobs, execution=execution, seed=n).accuracy
                for n, net in enumerate(some)
            )
            for knobs in (IN_ORDER, IN_ANY)
        ]
        return Accuracies(*found)

    first = accuracies([merged(nets, donors[0])])  # what cannot be merged is found before the rest
    say(f"measuring {len(nets)} networks alone")
    alone = accuracies(nets)
    each = [first]
    for number, draw in enumerate(donors[1:], start=2):
        if number % TOLD_EVERY == 0:
            say(f"measuring merged model {number} of {models}")
        each.append(accuracies([merged(nets, draw)]))
    say("measuring the ensemble")
    return MergedModels(
        images=len(data.validation),
        donors=donors,
        alone=alone,
        merged=Accuracies(
            tuple(one.sequential[0] for one in each), tuple(one.arbitrary[0] for one in each)
        ),
        ensemble=accuracies([ensemble(nets)]),
    )
