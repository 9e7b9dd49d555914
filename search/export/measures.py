"""What was measured on the test images, summed up batch by batch.

Shapes: B images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spaces.contract.task import Task
from trainers.evaluate import Table, answers_of, top_answers, within_caches
from trainers.metrics import Metric

LARGEST_BATCH = 256


def batch_of(task: Task) -> int:
    """How many images are measured at a time."""
    return within_caches(LARGEST_BATCH, task.height, task.width)


@dataclass
class Counts:
    """Answers and MACs of the test images so far."""

    answers: list[Tensor] = field(default_factory=list)  # (B,) of each batch
    sure: list[Tensor] = field(default_factory=list)  # probability of that answer
    top5: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    macs: list[Tensor] = field(default_factory=list)

    def add(self, logits_BC: Tensor, labels_B: Tensor, macs_B: Tensor) -> None:
        answer_B, top5_B = top_answers(logits_BC, labels_B)
        self.answers.append(answer_B)
        self.sure.append(logits_BC.softmax(1).gather(1, answer_B[:, None])[:, 0])
        self.top5.append(top5_B)
        self.labels.append(labels_B)
        self.macs.append(macs_B)

    def packed(self, metric: Metric) -> bytes | None:
        """What is answered to each image, for the metric's paired test."""
        return metric.packed(self._table.answers)

    def right(self) -> NDArray[np.bool_]:
        """(N,) which images are answered rightly."""
        return (torch.cat(self.answers) == torch.cat(self.labels)).numpy()

    def same_answers(self, other: Counts) -> int:
        """How many images get the same class."""
        return int((torch.cat(self.answers) == torch.cat(other.answers)).sum())

    def accuracy_and_cost(self, metric: Metric) -> dict[str, Any]:
        """`accuracy` is what the metric says, `top1` the share that is answered rightly in any case, `top5` of more
        than five classes alone.
        """
        table = self._table
        value, low, high = metric.measure(table.answers)
        top5 = table.answers.top5
        return {
            "images": len(table.answers.labels_N),
            "accuracy": value,
            "accuracy_low": low,
            "accuracy_high": high,
            "top1": table.accuracy,
            **({} if top5 is None else {"top5": top5}),
            "macs_mean": table.macs_mean,
            "macs_p95": table.macs_p95,
            "macs_max": table.macs_max,
        }

    @property
    def _table(self) -> Table:
        answers = answers_of(self.answers, self.top5, torch.cat(self.labels))
        return Table(answers, torch.cat(self.macs)[None], {})
