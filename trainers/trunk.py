"""The part of a network that trained weights are for: kept as it is for some epochs, its batch norms for all of them.

The trunk is the baseline without its classifiers. A head that is trained first does not spoil it: Kumar, Raghunathan,
Jones, Ma and Liang, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR, 2022.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Trunk:
    """Says of each epoch what of the trunk learns. What does not learn when it is made never will."""

    def __init__(self, net: DynamicNet, recipe: Recipe) -> None:
        self.net = net
        self.head_epochs = recipe.first_epochs
        self.norms = list(baseline_norms(net)) if recipe.freeze_norm or self.head_epochs else []
        self.freeze_norm = recipe.freeze_norm
        if recipe.freeze_norm:
            for norm in self.norms:
                norm.requires_grad_(False)
        heads = net.head_names() if self.head_epochs else set()
        named = net.named_parameters() if self.head_epochs else ()
        self.learning = [p for name, p in named if name not in heads and p.requires_grad]

    def start_epoch(self, epoch: int) -> None:
        """Put the network into training mode, but for what stays as it is in this epoch, counted from 0."""
        self.net.train()
        heads_alone = epoch < self.head_epochs
        for parameter in self.learning:
            parameter.requires_grad_(not heads_alone)
        if heads_alone or self.freeze_norm:
            for norm in self.norms:
                norm.eval()


def baseline_norms(net: DynamicNet) -> Iterator[nn.Module]:
    """The batch norms of the baseline; those of gates and exits are new, and have to learn."""
    for name, module in net.named_modules():
        if isinstance(module, NORMS) and not name.startswith(net.added):
            yield module
