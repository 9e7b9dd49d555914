"""What is measured of a trained network, as plain numbers: accuracies are shares of the validation images, MACs shares
of the baseline's.

Shapes: B images, C classes, K early exits, N images.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet, Plan
from spaces.transformers.merging import donors_of, ensemble, merged
from spaces.transformers.routed_vit import RoutedViT
from trainers.data.augment import normalized
from trainers.data.splits import ImageData
from trainers.evaluate import Table, evaluate, recalibrated
from trainers.execution import Execution
from trainers.exit_logits import exit_logits

PRUNE = (0.02, 0.1, 0.25)
LEVELS = 12  # thresholds tried an exit
BUDGETS = tuple(round(0.1 + 0.05 * i, 2) for i in range(39))  # of the baseline's MACs, up to 2


@dataclass(frozen=True)
class Bench:
    """Trained networks of one variant, and what they were trained on."""

    nets: Sequence[DynamicNet]
    data: ImageData
    candidate: Candidate
    execution: Execution
    options: Mapping[str, Any]

    @property
    def net(self) -> DynamicNet:
        return self.nets[0]

    def table(
        self, net: DynamicNet, knobs: Knobs, rates: Rates | None = None, seed: int = 0
    ) -> Table:
        return evaluate(
            net, self.data.validation, self.data, knobs, execution=self.execution, rates=rates, seed=seed
        )  # fmt: skip

    def in_any_order(self, net: DynamicNet, draw: int) -> float:
        """Accuracy in the orders of this number, one a batch, the same for every network of as many layers."""
        return self.table(net, Knobs(order="arbitrary", passes=1), seed=draw).accuracy

    def recalibrated(self, knobs: Knobs, rates: Rates | None = None) -> DynamicNet:
        return recalibrated(
            self.net, self.data, replace(knobs, recalibration_batches=self.options["recalibration"]),
            self.candidate.recipe, execution=self.execution, rates=rates,
        )  # fmt: skip


def accuracy(bench: Bench) -> dict[str, Any]:
    """Under the threshold policy: accuracy, MACs, mean open rate of the gates."""
    table = bench.table(bench.net, Knobs())
    units = [rate for gate in table.rates.values() for rate in gate]
    found = {
        "accuracy": table.accuracy,
        "macs": table.macs_mean / bench.net.plain_macs,
        "total": table.macs_mean,
    }
    return found | ({"open": sum(units) / len(units)} if units else {})


def policies(bench: Bench) -> dict[str, Any]:
    """Accuracy and MACs under every policy of probabilistic gates, batch norms refreshed with sampled gates."""
    net, passes = bench.recalibrated(Knobs(recalibrate="sample")), bench.options["passes"]
    threshold = bench.table(net, Knobs())
    found: dict[str, Any] = {
        "threshold": threshold.accuracy,
        "threshold_macs": threshold.macs_mean / net.plain_macs,
    }
    stochastic = bench.table(net, Knobs(policy="stochastic", passes=passes))
    found |= {
        "stochastic": stochastic.accuracy,
        "stochastic_macs": stochastic.macs_mean / net.plain_macs,
    }
    found["ensemble"] = bench.table(net, Knobs(policy="ensemble", passes=passes)).accuracy
    found["always_on"] = bench.table(net, Knobs(policy="always_on")).accuracy
    found["scaled_on"] = bench.table(net, Knobs(policy="scaled_on"), stochastic.rates).accuracy
    for eps in PRUNE:
        knobs = Knobs(prune=eps, recalibrate="same")
        one = bench.table(bench.recalibrated(knobs, threshold.rates), knobs, threshold.rates)
        settled = [
            rate <= eps or rate >= 1 - eps for gate in threshold.rates.values() for rate in gate
        ]
        found[f"pruned_{eps}"] = {"accuracy": one.accuracy, "settled": sum(settled) / len(settled)}
    return found


def exits(bench: Bench) -> dict[str, Any]:
    """Accuracy of each exit and of their ensemble, and a cascade's accuracy for each budget of MACs."""
    raw = exit_logits(
        bench.net, bench.data.validation, bench.data, Knobs(), execution=bench.execution
    )
    right_KN = (raw.logits.argmax(2) == raw.labels).numpy()
    ensemble_N = (raw.logits.mean(0).argmax(1) == raw.labels).numpy()
    confidence_KN = raw.logits[:-1].softmax(2).amax(2).double().numpy()
    macs_KN = raw.macs.double().numpy() / bench.net.plain_macs
    return {
        "exits": [float(one) for one in right_KN.mean(1)],
        "ensemble": float(ensemble_N.mean()),
        "cascade": cascade(confidence_KN, right_KN, ensemble_N, macs_KN),
    }


def cascade(
    confidence_KN: NDArray[Any],
    right_KN: NDArray[Any],
    ensemble_N: NDArray[Any],
    macs_KN: NDArray[Any],
) -> list[tuple[float, float]]:
    """(MACs, accuracy) for each budget: thresholds chosen on every other image, measured on the rest, and vice versa.

    Those who leave nowhere are answered by the ensemble, as published.
    """
    even_N = np.arange(confidence_KN.shape[1]) % 2 == 0
    levels = [np.unique(np.quantile(row, np.linspace(0, 1, LEVELS))) for row in confidence_KN]
    vectors = list(product(*([-1.0, *row] for row in levels)))
    outcomes = [
        _leaving(vector, confidence_KN, right_KN, ensemble_N, macs_KN) for vector in vectors
    ]
    halves = [
        np.array([(m[part].mean(), r[part].mean()) for r, m in outcomes])
        for part in (even_N, ~even_N)
    ]
    points = []
    for budget in BUDGETS:
        held_out = [_held_out(halves[a], halves[1 - a], budget) for a in (0, 1)]
        found = [one for one in held_out if one is not None]
        if len(found) == 2:
            macs, right = np.mean(found, axis=0).tolist()
            points.append((macs, right))
    return points


def _leaving(
    vector: Sequence[float],
    confidence_KN: NDArray[Any],
    right_KN: NDArray[Any],
    ensemble_N: NDArray[Any],
    macs_KN: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(right or wrong, MACs) of every image when thresholds are this vector."""
    right_N, macs_N = ensemble_N, macs_KN[-1]
    for k in reversed(range(len(vector))):
        gone = confidence_KN[k] > vector[k]
        right_N, macs_N = np.where(gone, right_KN[k], right_N), np.where(gone, macs_KN[k], macs_N)
    return right_N, macs_N


def _held_out(
    chosen_on: NDArray[Any], measured_on: NDArray[Any], budget: float
) -> NDArray[Any] | None:
    """(MACs, accuracy) on one half of the thresholds most accurate within the budget on the other."""
    within = np.flatnonzero(chosen_on[:, 0] <= budget)
    if not len(within):
        return None
    best = within[np.lexsort((chosen_on[within, 0], -chosen_on[within, 1]))[0]]
    return measured_on[best]


def orders(bench: Bench) -> dict[str, Any]:
    """Accuracy in sequential and arbitrary order and with layers left out; with copies, of merged nets and ensemble."""
    draws, net = bench.options["draws"], bench.net
    found: dict[str, Any] = {
        "sequential": bench.table(net, Knobs()).accuracy,
        "arbitrary": sum(bench.in_any_order(net, draw) for draw in range(draws)) / draws,
        "chance": 1 / net.task.classes,
        "kept": {},
    }
    layers = net.movable_layers
    for share in (0.75, 0.5, 0.25):
        count = max(1, round(share * layers))
        subsets = [
            tuple(sorted(random.Random(draw).sample(range(layers), count))) for draw in range(draws)
        ]
        each = [bench.table(net, Knobs(keep=one)).accuracy for one in subsets]
        found["kept"][str(share)] = sum(each) / draws
    if isinstance(net, RoutedViT) and net.place_heads:
        found["places"] = places_told(net, bench)
    if len(bench.nets) > 1:
        found |= _joined(bench, draws)
    return found


def places_told(net: RoutedViT, bench: Bench) -> float:
    """How often layers tell the place they run at from what they put out, over all images and one order a batch."""
    right: list[torch.Tensor] = []  # (B,) of each layer that ran

    def telling(head: nn.Module) -> Callable[..., None]:
        def tell(layer: nn.Module, given: Any, out_BND: torch.Tensor) -> None:
            place = len(right) % net.movable_layers
            right.append(head(out_BND).argmax(1) == place)

        return tell

    pairs = zip(net.layers, net.place_heads, strict=True)
    hooks = [layer.register_forward_hook(telling(head)) for layer, head in pairs]
    bench.in_any_order(net, 0)
    for hook in hooks:
        hook.remove()
    return float(torch.cat(right).double().mean())


def _joined(bench: Bench, draws: int) -> dict[str, float]:
    """Of merged networks, mean over draws of donors, and of the ensemble of all."""
    nets = list(bench.nets)
    in_order, any_order = [], []
    for draw in range(draws):
        one = merged(nets, donors_of(0, draw, nets[0].movable_layers, len(nets)))
        in_order.append(bench.table(one, Knobs()).accuracy)
        any_order.append(bench.in_any_order(one, draw))
    whole = ensemble(nets)
    return {
        "merged_sequential": sum(in_order) / draws,
        "merged_arbitrary": sum(any_order) / draws,
        "ensemble_sequential": bench.table(whole, Knobs()).accuracy,
        "ensemble_arbitrary": sum(bench.in_any_order(whole, draw) for draw in range(draws)) / draws,
    }


def oracle_gradient(bench: Bench) -> dict[str, Any]:
    """Largest absolute gradient that cross-entropy alone gives the oracles in a training step; 0 for none at all."""
    net = bench.net.train()
    batch = next(bench.data.train.batches(64, device=bench.execution.device, shuffle=0))
    objective = net.objective(Plan(epochs=1, steps=1))
    output = net(
        normalized(batch.images, bench.data.mean, bench.data.std), objective.policy(0, batch.ids)
    )
    net.zero_grad(set_to_none=True)
    F.cross_entropy(output.logits_BC.float(), batch.labels).backward()
    gradients = [
        torch.zeros(1) if p.grad is None else p.grad.detach().abs().cpu()
        for p in net.gate_parameters()
    ]
    return {"gradient": max(float(one.max()) for one in gradients)}


MEASURES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "accuracy": accuracy,
    "policies": policies,
    "exits": exits,
    "orders": orders,
    "oracle_gradient": oracle_gradient,
}
