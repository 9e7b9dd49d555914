"""The plain ResNet that gated ones are measured against, as a classifier of its own."""

from __future__ import annotations

from torch import Tensor

from spaces.backbones.resnet import ResNet


class PlainResNet(ResNet):
    """The ungated network: logits (B, classes) of normalised images (B, C, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        return plain_logits(self, images)


def plain_logits(net: ResNet, images: Tensor) -> Tensor:
    """Logits (B, classes) of the network without any gate."""
    u = net.stem(images)
    for block in net.blocks:
        u = block(u)
    return net.head(u)
