"""The exported network on the test images, beside the trained one: accuracy, MACs, answers.

Shapes: B images, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from search.export.curve import Carried, see
from search.export.measures import Counts, batch_of
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.policies import Policy
from spaces.deploy.ship import DeployedNet
from trainers.data.augment import normalized
from trainers.data.splits import ImageData, Split
from trainers.metrics import ACCURACY, Metric

# of the largest logit difference between two executions of the same decisions
LOGIT_TOLERANCE = 1e-3


class ParityError(RuntimeError):
    """The compact model does not answer as the trained one; nothing was written."""


@dataclass
class Answers(Counts):
    """What was seen of the test images so far, and how it compares with the trained network's."""

    difference: float = 0.0  # largest of the logits, where the decisions are the same
    same: int = 0  # answers as the trained network's
    same_unpruned: int = 0  # as the trained network's before settled gates were removed

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
    metric: Metric = ACCURACY,
    others: Sequence[Carried] = (),
) -> tuple[dict[str, Any], Counts]:
    """The report, and what is answered to each test image.

    The report has accuracy and cost on test, and how the compact model's answers compare with the trained network's.
    `others` are operating points that are measured in the same pass.

    Raises ParityError when they differ by more than rounding.
    """
    policy = net.knobs_policy(knobs, ids=torch.arange(1), rates=rates)
    if knobs.policy == "threshold":
        policy = replace(policy, fixed=compact.fixed)
    unpruned, counts = replace(knobs, prune=None), Answers()
    settles = any(value is not None for units in compact.fixed.values() for value in units)
    removes = knobs.prune is not None or (knobs.policy == "threshold" and settles)
    with torch.inference_mode():
        for batch in test.batches(batch_of(net.task)):
            pixels = batch.images.float() / 255
            logits_BC, macs_B = compact.run(pixels)
            see(compact, others, pixels, batch.labels)
            images = normalized(batch.images, data.mean, data.std)
            free_BC = trained_BC = net(images, policy).logits_BC
            if removes:  # else it is the same pass
                free_BC = net.run(images, unpruned, rates=rates).logits_BC
            answers_B = logits_BC.argmax(1)
            off_B = (logits_BC - trained_BC).abs().amax(1)
            differs_B = (off_B > LOGIT_TOLERANCE) | (answers_B != trained_BC.argmax(1))
            if bool(differs_B.any()):
                _check_exactly(compact, net, policy, batch.images[differs_B], data)
            rounding = float(torch.where(differs_B, 0.0, off_B).max())
            counts.difference = max(counts.difference, rounding)
            counts.same += int((~differs_B).sum())
            counts.same_unpruned += int((answers_B == free_BC.argmax(1)).sum())
            counts.add(logits_BC, batch.labels, macs_B)
    report = {
        "test": counts.accuracy_and_cost(metric),
        "parameters": sum(p.numel() for p in compact.parameters()),
        "parameters_trained": sum(p.numel() for p in net.parameters()),
        "plain_macs": net.plain_macs,
        "parity": counts.parity(len(test)),
        "gates": compact.gate_counts(),
        "dynamic": compact.dynamic,
    }
    return report, counts


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
