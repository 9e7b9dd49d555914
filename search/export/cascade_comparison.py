"""An exported cascade on the test images, beside its trained members joined by the same rule: accuracy, MACs, answers.

Shapes: B images, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from search.export.comparison import LOGIT_TOLERANCE, Answers, ParityError
from search.export.measures import Counts, batch_of
from search.measure.cascade_tables import outcomes
from search.run.cascade_passes import TrainedMember
from spaces.contract.cascades import CascadeRule
from spaces.deploy.cascade import SMALLEST, DeployedCascade
from trainers.data.splits import Split
from trainers.metrics import Metric


@dataclass
class _Seen(Answers):
    asked: list[int] = field(default_factory=list)  # images that each member saw


def compare_cascade(
    members: Sequence[TrainedMember], compact: DeployedCascade, test: Split, metric: Metric
) -> tuple[dict[str, Any], Counts]:
    """As `comparison.compare`, of a cascade; test images are of the size that it takes. Raises ParityError."""
    seen = _Seen(asked=[0] * len(members))
    with torch.inference_mode():
        for batch in test.batches(batch_of(compact.task)):
            _compare_batch(members, compact, batch.images.float() / 255, batch.labels, seen)
    images, trained = len(test), [member.net for member in members]
    report = {
        "test": seen.accuracy_and_cost(metric),
        "shares": [count / images for count in seen.asked],
        "parameters": sum(p.numel() for p in compact.parameters()),
        "parameters_trained": sum(p.numel() for net in trained for p in net.parameters()),
        "plain_macs": max(net.plain_macs for net in trained),
        "parity": seen.parity(images),
        "gates": compact.gate_counts(),
        "dynamic": compact.dynamic,
    }
    return report, seen


def _compare_batch(
    members: Sequence[TrainedMember],
    compact: DeployedCascade,
    pixels: Tensor,
    labels_B: Tensor,
    seen: _Seen,
) -> None:
    logits_BC, macs_B = compact.run(pixels)
    trained_BC, stage_B = _trained(members, compact.rule, pixels)
    off_B = (logits_BC - trained_BC).abs().amax(1)
    differs_B = (off_B > LOGIT_TOLERANCE) | (logits_BC.argmax(1) != trained_BC.argmax(1))
    if bool(differs_B.any()):
        _check_exactly(members, compact, pixels[differs_B])
    seen.difference = max(seen.difference, float(torch.where(differs_B, 0.0, off_B).max()))
    seen.same += int((~differs_B).sum())
    seen.same_unpruned = seen.same
    seen.asked = [n + int((stage_B >= k).sum()) for k, n in enumerate(seen.asked)]
    seen.add(logits_BC, labels_B, macs_B)


def _trained(
    members: Sequence[TrainedMember], rule: CascadeRule, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits (B, C) of the trained members, each of which sees all images, and who answered (B,)."""
    each = [member.answered(pixels) for member in members]
    found = outcomes([p for p, _ in each], [macs.numpy() for _, macs in each], rule)
    return found.probabilities.clamp_min(SMALLEST).log(), torch.from_numpy(found.stage)


def _check_exactly(
    members: Sequence[TrainedMember], compact: DeployedCascade, pixels: Tensor
) -> None:
    """Compare in float64 what differs in float32: an image may lie within a rounding error of a threshold.

    Raises ParityError when the two still differ.
    """
    exact = [replace(one, net=copy.deepcopy(one.net).double()) for one in members]
    ours = copy.deepcopy(compact).double()(pixels.double())
    theirs, _ = _trained(exact, compact.rule, pixels.double())
    off = float((ours - theirs).abs().max())
    if off > LOGIT_TOLERANCE:
        raise ParityError(
            f"the exported cascade differs from the trained networks on {len(pixels)} images, logits by up to "
            f"{off:.2g}; nothing was written"
        )
