"""The exported network on the test images, beside the trained one: accuracy, MACs, answers, latency.

Shapes: B images, C classes.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.policies import Policy
from spaces.deploy.ship import DeployedNet, ship_baseline
from trainers.data.augment import normalized
from trainers.data.splits import ImageData, Split
from trainers.evaluate import Table
from trainers.latency import latencies_ms
from trainers.significance import wilson

LATENCY_BATCHES = (1, 64)
# of the largest logit difference between two executions of the same decisions
LOGIT_TOLERANCE = 1e-3
BATCH = 256


class ParityError(RuntimeError):
    """The compact model does not answer as the trained one; nothing was written."""


@dataclass
class _Counts:
    """What was seen of the test images so far."""

    correct: list[Tensor] = field(default_factory=list)  # (B,) of each batch
    macs: list[Tensor] = field(default_factory=list)
    difference: float = 0.0  # largest of the logits, where the decisions are the same
    same: int = 0  # answers as the trained network's
    same_unpruned: int = 0  # as the trained network's before settled gates were removed

    def accuracy_and_cost(self, images: int) -> dict[str, Any]:
        table = Table(torch.cat(self.correct)[None], torch.cat(self.macs)[None], {})
        low, high = wilson(table.accuracy, images)
        return {
            "images": images,
            "accuracy": table.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "macs_mean": table.macs_mean,
            "macs_p95": table.macs_p95,
            "macs_max": table.macs_max,
        }

    def parity(self, images: int) -> dict[str, Any]:
        return {
            "images": images,
            "same_answers": self.same,
            "decided_by_rounding": images - self.same,
            "largest_logit_difference": self.difference,
            "same_answers_before_removing_gates": self.same_unpruned,
        }


def compare(
    net: DynamicNet,
    compact: DeployedNet,
    knobs: Knobs,
    rates: Mapping[str, tuple[float, ...]],
    test: Split,
    data: ImageData,
) -> dict[str, Any]:
    """Accuracy and cost on test, and how the compact model's answers compare with the trained network's.

    Raises ParityError when they differ by more than rounding.
    """
    policy = net.knobs_policy(knobs, ids=torch.arange(1), rates=rates)
    if knobs.policy == "threshold":
        policy = replace(policy, fixed=compact.fixed)
    unpruned, counts = replace(knobs, prune=None), _Counts()
    with torch.inference_mode():
        for batch in test.batches(BATCH):
            logits_BC, macs_B = compact.run(batch.images.float() / 255)
            trained_BC = net(normalized(batch.images, data.mean, data.std), policy).logits_BC
            free = net.run(normalized(batch.images, data.mean, data.std), unpruned, rates=rates)
            answers_B = logits_BC.argmax(1)
            off_B = (logits_BC - trained_BC).abs().amax(1)
            differs_B = (off_B > LOGIT_TOLERANCE) | (answers_B != trained_BC.argmax(1))
            if bool(differs_B.any()):
                _check_exactly(compact, net, policy, batch.images[differs_B], data)
            rounding = float(torch.where(differs_B, 0.0, off_B).max())
            counts.difference = max(counts.difference, rounding)
            counts.same += int((~differs_B).sum())
            counts.same_unpruned += int((answers_B == free.logits_BC.argmax(1)).sum())
            counts.correct.append(answers_B == batch.labels)
            counts.macs.append(macs_B)
    return {
        "test": counts.accuracy_and_cost(len(test)),
        "parameters": sum(p.numel() for p in compact.parameters()),
        "parameters_trained": sum(p.numel() for p in net.parameters()),
        "plain_macs": net.plain_macs,
        "parity": counts.parity(len(test)),
        "gates": compact.gate_counts(),
    }


def _check_exactly(
    compact: DeployedNet, net: DynamicNet, policy: Policy, images: Tensor, data: ImageData
) -> None:
    """Compare in float64 what differs in float32: a gate may lie within a rounding error of its threshold.

    Raises ParityError when the two still differ.
    """
    exact, trained = copy.deepcopy(compact).double(), copy.deepcopy(net).double()
    ours = exact(images.double() / 255)
    theirs = trained(normalized(images, data.mean, data.std, torch.float64), policy).logits_BC
    off = float((ours - theirs).abs().max())
    if off > LOGIT_TOLERANCE:
        raise ParityError(
            f"the compact model differs from the trained one on {len(images)} images, logits by up to {off:.2g}; "
            "nothing was written"
        )


def latency(compact: DeployedNet, net: DynamicNet, test: Split) -> dict[str, Any]:
    """Median milliseconds on this machine, beside the baseline of the same backbone, its batch norm folded too."""
    baseline = ship_baseline(net)
    measured: dict[str, Any] = {
        "device": f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"
    }
    for size in LATENCY_BATCHES:
        inputs = [batch.images.float() / 255 for batch in _first(test, size, 64)]
        ours, theirs = latencies_ms([compact, baseline], inputs, repeats=200 if size == 1 else 30)
        measured[f"batch_{size}"] = {"exported": ours, "static": theirs, "ratio": ours / theirs}
    return measured


def _first(split: Split, size: int, count: int) -> list[Any]:
    batches = []
    for batch in split.batches(min(size, len(split))):
        batches.append(batch)
        if len(batches) == count:
            break
    return batches
