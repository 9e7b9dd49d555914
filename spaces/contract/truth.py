"""What a network should answer, where that is more than one class an image.

A teacher's answers: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS Deep Learning
Workshop, 2015.

Shapes: B images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Truth:
    """Of a batch: classes (B,), shares of classes (B, C) where images are mixed, logits of a teacher (B, C)."""

    labels_B: Tensor
    shares_BC: Tensor | None = None
    teacher_BC: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels_B)

    def __getitem__(self, rows: slice) -> Truth:
        parts = (self.labels_B, self.shares_BC, self.teacher_BC)
        return Truth(*(None if one is None else one[rows] for one in parts))  # type: ignore[arg-type]

    def taught(self, teacher_BC: Tensor) -> Truth:
        """The same with the logits of a teacher."""
        return replace(self, teacher_BC=teacher_BC)

    def right(self, logits_BC: Tensor) -> Tensor:
        """How many images are answered rightly; of a mixed one, the share that is."""
        answer_B = logits_BC.argmax(1)
        if self.shares_BC is None:
            return (answer_B == self.labels_B).sum()
        return self.shares_BC.gather(1, answer_B[:, None]).sum()


Labels = Tensor | Truth  # (B,) classes, or all of it


def truth_of(labels: Labels) -> Truth:
    """The labels as a Truth."""
    return labels if isinstance(labels, Truth) else Truth(labels)


def shared_cross_entropy(
    logits_BC: Tensor, shares_BC: Tensor, weight_C: Tensor | None, smoothing: float, reduction: str
) -> Tensor:
    """The cross-entropy with shares of classes: the mix of what each class alone would cost.

    Its mean divides by the number of images, as that of single classes does, so that parts of a batch add up to it.
    """
    each_B = F.cross_entropy(
        logits_BC, shares_BC, weight_C, reduction="none", label_smoothing=smoothing
    )
    return each_B if reduction == "none" else each_B.mean()


def distillation(
    student_BC: Tensor, teacher_BC: Tensor, temperature: float, reduction: str = "mean"
) -> Tensor:
    """temperature^2 times the cross-entropy of the student's softened answers with the teacher's."""
    target = (teacher_BC.detach() / temperature).softmax(1)
    return temperature**2 * F.cross_entropy(student_BC / temperature, target, reduction=reduction)
