"""Gates with convolutions of their own: what they cost, what they see, what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spaces.contract.task import Task
from spaces.families.gated_resnet import GatedResNet

Build = Callable[..., GatedResNet]
Draw = Callable[..., Tensor]
CIFAR = Task(channels=3, height=32, width=32, classes=10)


@pytest.mark.parametrize(
    ("kind", "share"), [("ffgate_1", (16**2 + 8**2) / (2 * 32**2)), ("ffgate_2", 0.125)]
)
def test_a_feed_forward_gate_takes_the_published_share_of_its_block(
    resnet: Build, kind: str, share: float
) -> None:
    net = resnet(CIFAR, backbone="resnet20", width=1.0, gate=kind)
    for index, block in enumerate(net.chain()):
        heads = net.heads(index)
        assert heads is not None
        if block.identity:
            assert heads.trunk_macs() == share * block.guarded_macs()["layer"]
        assert heads.unit_macs() == heads.channels


def test_a_feed_forward_gate_sees_where_things_are(
    resnet: Build, images: Draw, scramble: Callable[..., GatedResNet]
) -> None:
    """One that reads pooled features cannot tell an image from the same pixels in another order."""
    x = images(2, CIFAR)
    moved = x.flatten(2)[:, :, torch.randperm(32 * 32)].view_as(x)
    told = {}
    for kind in ("dependent", "ffgate_2"):
        net = scramble(resnet(CIFAR, gate=kind))
        heads = net.heads(0)
        assert heads is not None
        widened = [u[:, :1].expand(-1, heads.channels, -1, -1) for u in (x, moved)]
        a, b = (heads.logit("layer", heads.features(u)) for u in widened)
        told[kind] = not torch.allclose(a, b, atol=1e-6)
    assert told == {"dependent": False, "ffgate_2": True}


def test_it_decides_about_whole_blocks_only(resnet: Build) -> None:
    with pytest.raises(ValueError, match=r"^gate: ffgate_1 decides .* write granularity: layer"):
        resnet(CIFAR, gate="ffgate_1", granularity="joint")
