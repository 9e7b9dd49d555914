"""The logits of a network on every image of a split, under given run-time knobs.

Shapes: N images, C classes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet
from trainers.data.splits import ImageData, Split
from trainers.evaluate import outputs
from trainers.execution import Execution


@torch.inference_mode()
def image_logits(
    net: DynamicNet,
    split: Split,
    data: ImageData,
    knobs: Knobs,
    *,
    execution: Execution | None = None,
    rates: Rates | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits (N, C) float32 and MACs (N,) float64 of the network (put in eval mode), in the split's order.

    Raises ValueError for knobs that draw at random.
    """
    if knobs.random:
        raise ValueError(f"{knobs.policy}: answers depend on a draw; give knobs that decide")
    net.eval()
    logits, macs = [], []
    run = partial(net.run, knobs=knobs, rates=rates)
    for batch, output in outputs(run, split, data, execution or Execution()):
        logits.append(output.logits_BC.float().cpu())
        macs.append(output.macs_B.double().expand(len(batch.labels)).cpu())
    return torch.cat(logits), torch.cat(macs)
