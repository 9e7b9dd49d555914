"""What a training adds up over an epoch, and the error of one whose loss is no longer a number.

Shapes: B images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spaces.contract.net import Output
from spaces.contract.truth import Labels, truth_of


class DivergedError(ArithmeticError):
    """The loss stopped being a number; says in which epoch and which term."""

    def __init__(self, epoch: int, cause: str) -> None:
        super().__init__(
            f"epoch {epoch}: {cause} is not finite; a lower learning rate or gradient clipping may help"
        )
        self.epoch = epoch


@dataclass
class EpochSums:
    """Totals of an epoch, kept on the device until someone looks."""

    steps: int = 0
    images: int = 0
    terms: dict[str, Tensor] = field(default_factory=dict)
    correct: Tensor | float = 0.0
    macs: Tensor | float = 0.0
    opened: Tensor | float = 0.0

    def add(
        self, terms: dict[str, Tensor], output: Output, labels: Labels, share: float = 1.0
    ) -> None:
        """Add what a pass over a share of a step's images showed."""
        self.images += len(labels)
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + share * term.detach()
        self.correct = self.correct + truth_of(labels).right(output.logits_BC.detach())
        self.macs = self.macs + share * output.macs_B.detach().mean()
        if output.decisions:
            rates = [decision.z_BU.detach().mean() for decision in output.decisions]
            self.opened = self.opened + share * torch.stack(rates).mean()

    def check_finite(self, epoch: int) -> None:
        """Raise DivergedError where a term of the loss is not finite; epochs count from 0."""
        for name, total in self.terms.items():
            if not bool(torch.isfinite(total)):
                raise DivergedError(epoch + 1, name.replace("_", " "))

    def means(self, seconds: float) -> dict[str, float]:
        """Measures by name of an epoch that took so long."""
        terms = {f"train/{name}": float(total) / self.steps for name, total in self.terms.items()}
        return terms | {
            "train/loss": sum(terms.values()),
            "train/accuracy": float(self.correct) / self.images,
            "train/macs": float(self.macs) / self.steps,
            "train/open": float(self.opened) / self.steps,
            "train/images_per_second": self.images / seconds,
        }
