"""What is read of all repeats of a setting together: merged models, and all of them asked at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.paper_tables.readings import Reading, TrainedNet
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.transformers.merging import donors_of, ensemble, merged
from trainers.evaluate import evaluate

MODELS = 100  # that are drawn


def merged_models(nets: Sequence[TrainedNet], *, order: str) -> list[Reading]:
    """Of each merged model; layer l is that of network pi(l)."""
    donors = [net.network for net in nets]
    layers = int(nets[0].trial.params["layers"])
    draws = [donors_of(0, number, layers, len(donors)) for number in range(MODELS)]
    return [_read(merged(donors, draw), nets[0], order, n) for n, draw in enumerate(draws)]


def asked_together(nets: Sequence[TrainedNet], *, order: str) -> list[Reading]:
    """The mean of the logits of all networks."""
    return [_read(ensemble([net.network for net in nets]), nets[0], order, 0)]


def _read(net: DynamicNet, of: TrainedNet, order: str, seed: int) -> Reading:
    knobs = Knobs(policy="always_on", order=order)
    data = of.data
    table = evaluate(net, data.validation, data, knobs, execution=of.execution, seed=seed)
    return Reading(table.accuracy, table.macs_mean, top5=table.answers.top5)


JOINT: dict[str, Callable[[Sequence[TrainedNet]], list[Reading]]] = {
    "merged": partial(merged_models, order="sequential"),
    "merged, any order": partial(merged_models, order="arbitrary"),
    "together, any order": partial(asked_together, order="arbitrary"),
}
