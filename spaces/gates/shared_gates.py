"""Gates that share a network: one LSTM that goes along the blocks, or a policy network that sees the image once.

LSTM: Wang, Yu, Dou, Darrell and Gonzalez, "SkipNet: Learning Dynamic Routing in Convolutional Networks", ECCV, 2018.
Policy network: Wu, Nagarajan, Kumar, Rennie, Davis, Grauman and Feris, "BlockDrop: Dynamic Inference Paths in Residual
Networks", CVPR, 2018.
Differs: both learn by the estimators that all gates have, of which `reinforce` is nearest to what is published (for
SkipNet: after supervised training); each block has a projection to the LSTM and a logit of its own; the policy network
has one block a stage and reads images shrunk to less than twice SIDE.

Shapes: A samples still in, B images, H hidden units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.backbones.resnet import Block
from spaces.contract.compute import conv_macs, conv_output
from spaces.contract.task import Task

SIDE = 32  # pixels


class RecurrentGate(nn.Module):
    """An LSTM cell that every gate asks in turn, so that a decision knows of the features at the gates before it.

    A gate that is settled is not asked and leaves the state as it was.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.read = nn.Linear(hidden, 4 * hidden)
        self.recalled = nn.Linear(hidden, 4 * hidden, bias=False)

    def forward(self, x_AH: Tensor, hidden_AH: Tensor, cell_AH: Tensor) -> tuple[Tensor, Tensor]:
        """(hidden state, cell state), both (A, H), at least float32."""
        gates = self.read(x_AH) + self.recalled(hidden_AH.to(x_AH.dtype))
        if gates.dtype in (torch.float16, torch.bfloat16):
            gates = gates.float()
        write, forget, value, show = gates.chunk(4, 1)
        cell_AH = torch.sigmoid(forget) * cell_AH + torch.sigmoid(write) * torch.tanh(value)
        return torch.sigmoid(show) * torch.tanh(cell_AH), cell_AH

    @staticmethod
    def step_macs(hidden: int) -> int:
        """MACs of one gate's turn."""
        return 2 * hidden * 4 * hidden


class PolicyNet(nn.Module):
    """Images → (B, WIDEST x filters): a 3x3 convolution and residual blocks of 1, 2 and 4 times the filters, pooled.

    With 8 filters it costs 8 % of a ResNet-20 and 1 % of a ResNet-110 of full width, with 16 (as published) 31 and 5 %.
    """

    WIDEST = 4

    def __init__(self, filters: int, task: Task) -> None:
        super().__init__()
        self.shrink = max(1, min(task.height, task.width) // SIDE)
        self.conv = nn.Conv2d(task.channels, filters, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        widths = (filters, filters, 2 * filters, self.WIDEST * filters)
        self.blocks = nn.ModuleList(
            Block(widths[i], widths[i + 1], 1 + (i > 0), "B") for i in range(3)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.own_macs = self._macs(task.height // self.shrink, task.width // self.shrink)

    def forward(self, images: Tensor) -> Tensor:
        u = F.avg_pool2d(images, self.shrink) if self.shrink > 1 else images
        u = F.relu(self.norm(self.conv(u)), inplace=True)
        for block in self.blocks:
            u = block(u)
        return u.mean((2, 3))

    def _macs(self, height: int, width: int) -> int:
        total = conv_macs(self.conv, height, width)
        for block in self.blocks:
            assert isinstance(block, Block)
            height, width = conv_output(height, block.conv1), conv_output(width, block.conv1, 1)
            total += sum(
                conv_macs(m, height, width) for m in block.modules() if isinstance(m, nn.Conv2d)
            )
        return total
