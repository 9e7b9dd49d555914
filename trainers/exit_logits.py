"""What every exit of a network answers on every image at which cost: the table that thresholds are read off.

Shapes: K early exits (row K is the deepest head), N images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from spaces.contract.exit_rules import ExitRule
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet
from spaces.contract.units import Ran
from trainers.answers import Answers
from trainers.data.splits import ImageData, Split
from trainers.evaluate import answers_of, outputs, top_answers
from trainers.execution import Execution


@dataclass(frozen=True)
class ExitLogits:
    """Every exit's answers on every image: logits (K + 1, N, C) float32 and MACs (K + 1, N) of leaving there.

    Row K is the deepest head; `labels` (N,) are the classes, `rates` the gates' open rates under the knobs, `ran` what
    the gates decided of each image.
    """

    logits: Tensor
    macs: Tensor
    labels: Tensor
    rates: dict[str, tuple[float, ...]]
    ran: Ran | None = None

    def under(self, rule: ExitRule) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and MACs (N,) where images leave by the rule, as in a pass under it."""
        every = list(self.logits)
        logits_NC, macs_N = every[-1], self.macs[-1]
        if rule.fallback == "ensemble":
            sure_N = rule.leaves(len(every) - 1, every)
            logits_NC = torch.where(sure_N[:, None], logits_NC, self.logits.mean(0))
        for k in reversed(range(len(every) - 1)):
            leaves_N = rule.leaves(k, every[: k + 1])
            logits_NC = torch.where(leaves_N[:, None], every[k], logits_NC)
            macs_N = torch.where(leaves_N, self.macs[k], macs_N)
        return logits_NC, macs_N

    def answers(self, index_N: Tensor) -> Answers:
        """The answers where image n leaves at exit `index_N[n]`: K is the deepest head, K + 1 the ensemble."""
        deepest = len(self.logits) - 1
        logits_NC = self.logits[index_N.clamp(max=deepest), torch.arange(len(index_N))]
        unsure_N = index_N > deepest
        logits_NC[unsure_N] = self.logits[:, unsure_N].mean(0)
        answer_N, top5_N = top_answers(logits_NC, self.labels)
        return answers_of([answer_N], [top5_N], self.labels)


@torch.inference_mode()
def exit_logits(
    net: DynamicNet,
    split: Split,
    data: ImageData,
    knobs: Knobs,
    *,
    execution: Execution | None = None,
    rates: Rates | None = None,
) -> ExitLogits:
    """Run every image through all exits of the network (put in eval mode), its gates set by the knobs."""
    execution = execution or Execution()
    net.eval()
    every = replace(knobs, exit_rule="every", exit_thresholds=())
    run = partial(net.run, knobs=every, rates=rates)
    macs, opened, ran, start = [], [], [], 0
    # once: of many classes they fill memory
    logits = torch.empty(net.exit_count + 1, len(split), len(data.classes))
    for batch, output in outputs(run, split, data, execution):
        if output.exits is None:
            raise ValueError("this network has no exits")
        for k, one in enumerate(output.exits.logits):
            logits[k, start : start + len(one)] = one
        start += len(batch.labels)
        macs.append(torch.stack(list(output.exits.macs)).cpu())
        ran.append(replace(Ran.of(output), exit=None))
        opened.append(
            {
                d.gate.name: d.open_BU.double().expand(len(batch.labels), -1).cpu()
                for d in output.decisions
            }
        )
    names = opened[0] if opened else {}
    found = {
        name: tuple(torch.cat([one[name] for one in opened]).mean(0).tolist()) for name in names
    }
    return ExitLogits(logits, torch.cat(macs, 1), split.labels, found, Ran.joined(ran))
