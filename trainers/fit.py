"""A training of any family, from its first epoch or from its checkpoint.

`fit` is a generator: it trains one epoch for each record it yields, and a caller that asks for no more has stopped it.
Everything random is a function of (seed, epoch or step, image), so a training resumed from its checkpoint equals an
uninterrupted one; the global random state is left as it was.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from trainers.data.splits import ImageData
from trainers.epoch_result import EpochResult
from trainers.epoch_sums import EpochSums
from trainers.evaluate import evaluate, mean_rates
from trainers.execution import Execution
from trainers.kept_weights import part
from trainers.metrics import ACCURACY, Metric
from trainers.together import Together
from trainers.training import Training

# trains the epoch of a number, from 0: what it adds up to, and the seconds that it took; raises DivergedError
Trained = Callable[[Training, int], tuple[EpochSums, float]]
RECENT = 32  # epochs of which a checkpoint keeps the records: a reader that was killed may not have read them


class Slot(Protocol):
    """Where a training keeps its latest checkpoint; `shared` names tensors that stay as they are all the time."""

    def save(
        self, tensors: dict[str, Tensor], state: dict[str, Any], shared: Collection[str] = ()
    ) -> None: ...

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None: ...


def trained_alone(training: Training, epoch: int) -> tuple[EpochSums, float]:
    """Train the epoch of this number, from 0. Raises DivergedError."""
    started = time.perf_counter()
    training.together.begin(epoch)
    return _trained(training, epoch), time.perf_counter() - started


def _trained(training: Training, epoch: int) -> EpochSums:
    """Train the epoch of this number, from 0; the global random state is left as it was."""
    with torch.random.fork_rng(devices=_cuda_devices(training.execution)):
        torch.manual_seed(training.together.seed(training.seed * 100_003 + epoch))
        return training.epoch(epoch)


def fit(
    net: DynamicNet,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int = 0,
    execution: Execution | None = None,
    slot: Slot | None = None,
    metric: Metric = ACCURACY,
    teacher: DynamicNet | None = None,
    together: Together | None = None,
) -> Generator[EpochResult, None, None]:
    """Train `net` in place, yielding one record an epoch; with a slot, continue from its checkpoint and keep it.

    While a record is out, the network has the weights that the training would hand over now: those of the last epoch,
    their moving average, or the best ones so far, as the recipe says. When the generator ends it keeps them.
    Records have top-1 accuracy on validation, and what the `metric` says beside it.
    `teacher` is a trained network that a recipe with `distill` learns from, too.
    `together` has the partners, processes that `follow` this one.
    A training that continues first yields the record of its last epoch again, with those before it: they may have been
    lost with their reader.
    At the end the network is on the execution's device in eval mode. Raises DivergedError.
    """
    execution = execution or Execution()
    training = Training(execution.placed(net), data, recipe, seed, execution, teacher, together)
    with closing(rounds(training, slot=slot, metric=metric)) as found:
        for result in found:
            if result is not None:
                yield result


def rounds(
    training: Training,
    *,
    slot: Slot | None = None,
    metric: Metric = ACCURACY,
    trained: Trained = trained_alone,
) -> Generator[EpochResult | None, None, None]:
    """What `fit` yields of a training that was made before; before each epoch that it trains, None.

    Whoever trains several together asks each for its None, then for the epoch. `trained` trains them.
    """
    first, saved = 0, slot.load() if slot else None
    recent: deque[EpochResult] = deque(maxlen=RECENT)
    if saved is not None:
        training.load(*saved)
        first = int(saved[1]["epochs_done"])
        recent.extend(_records(saved[1]))
        with training.kept.handed_over():
            yield replace(recent[-1], before=tuple(recent)[:-1])
    for epoch in range(first, training.recipe.epochs):
        yield None
        sums, seconds = trained(training, epoch)
        result = _result(training, epoch, sums, seconds, metric)
        recent.append(result)
        if slot:
            done = {"epochs_done": result.epoch, "recent": [_plain(one) for one in recent]}
            slot.save(training.tensors(), training.state() | done, training.constant)
        with training.kept.handed_over():
            yield result
    training.kept.hand_over()
    training.net.eval()


def follow(
    net: DynamicNet,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    execution: Execution,
    slot: Slot,
    teacher: DynamicNet | None,
    together: Together,
    epochs: Iterable[int],
) -> None:
    """Train `net` together with the process that calls `fit`, the epochs that it begins; nothing is measured or kept.

    Raises DivergedError as that process does, and RuntimeError where the two do not have the same checkpoint.
    """
    training = Training(execution.placed(net), data, recipe, seed, execution, teacher, together)
    known = 0
    if (saved := slot.load()) is not None:
        training.load(*saved)
        known = int(saved[1]["epochs_done"])
    for epoch in epochs:
        if epoch != known:
            raise RuntimeError(f"its checkpoint is of epoch {known}, the first process has {epoch}")
        _trained(training, epoch)
        known += 1


def _result(
    training: Training, epoch: int, sums: EpochSums, seconds: float, metric: Metric
) -> EpochResult:
    """Measure what the epoch's weights are worth on validation."""
    net, data, objective = training.net, training.data, training.objective
    with training.kept.of_this_epoch():
        table = evaluate(net, data.validation, data, Knobs(), execution=training.execution)
    value = metric.measure(table.answers).value
    assert table.cross_entropy is not None
    training.kept.after_epoch(epoch + 1, value, table.cross_entropy, settled=objective.settled)
    metrics = sums.means(seconds) | {
        "val/accuracy": table.accuracy,
        "val/cross_entropy": table.cross_entropy,
        f"val/{metric.name}": value,
        "val/macs": table.macs_mean,
        **({} if table.answers.top5 is None else {"val/top5": table.answers.top5}),
    }
    if training.kept.keeps_best:
        metrics["kept/epoch"] = float(training.kept.epoch)
    metrics |= {f"objective/{name}": value for name, value in objective.report().items()}
    metrics["objective/settled"] = float(objective.settled)
    if (outlook := objective.outlook) is not None:
        metrics["objective/outlook"] = outlook
    return EpochResult(epoch + 1, metrics | _gate_summary(table.rates), mean_rates(table.rates))


def _plain(result: EpochResult) -> dict[str, Any]:
    return {"epoch": result.epoch, "metrics": result.metrics, "gate_rates": result.gate_rates}


def _records(state: dict[str, Any]) -> list[EpochResult]:
    """The records that a checkpoint keeps; those of earlier versions have the last one alone."""
    return [EpochResult(**one) for one in state.get("recent") or [state["result"]]]


def net_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's state dict out of a checkpoint's tensors."""
    return part(tensors, "net.")


def _gate_summary(rates: dict[str, tuple[float, ...]]) -> dict[str, float]:
    """Mean open rate, share of gate units that collapsed, mean binary entropy of the rates in bits."""
    units = [rate for gate in rates.values() for rate in gate]
    if not units:
        return {}
    entropy = [-sum(p * math.log2(p) for p in (r, 1 - r) if p > 0) for r in units]
    return {
        "gates/open": sum(units) / len(units),
        "gates/collapsed": sum(r < 0.01 or r > 0.99 for r in units) / len(units),
        "gates/entropy": sum(entropy) / len(units),
    }


def _cuda_devices(execution: Execution) -> list[int]:
    return [torch.cuda.current_device()] if execution.device.startswith("cuda") else []
