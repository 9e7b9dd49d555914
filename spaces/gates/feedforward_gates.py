"""Gates with convolutions of their own, which see where things are in a block's input.

Wang, Yu, Dou, Darrell and Gonzalez, "SkipNet: Learning Dynamic Routing in Convolutional Networks", ECCV, 2018: FFGate-I
and FFGate-II. They take 15.6 % (about 19 %, the paper says) and 12.5 % of the MACs of a block of two convolutions.
Differs: the difference of two logits is one logit (but for `two_logit`); maps with an odd side are padded before they
are pooled.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.compute import conv_macs, conv_output

FFGATE_1, FFGATE_2 = "ffgate_1", "ffgate_2"
FEEDFORWARD = (FFGATE_1, FFGATE_2)


class FeedForwardGate(nn.Module):
    """Maps of `size` (H, W) → (B, C) features, which a linear layer makes a logit of.

    ffgate_1: max pooling, a 3x3 convolution and one with stride 2; ffgate_2: the one with stride 2 alone.
    """

    def __init__(self, kind: str, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        pools = kind == FFGATE_1
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if pools else nn.Identity()
        strides = (1, 2) if pools else (2,)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False) for stride in strides
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in strides)
        height, width = ((side + 1) // 2 for side in size) if pools else size
        self.own_macs = 0
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            height, width = conv_output(height, conv), conv_output(width, conv, 1)
            self.own_macs += conv_macs(conv, height, width)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        u = self.pool(maps_BCHW)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            u = F.relu(norm(conv(u)))
        return u.mean((2, 3))
