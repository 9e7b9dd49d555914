"""The plain ResNet: its MACs, shortcuts, shapes."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_resnet import PlainResNet
from spaces.backbones.resnet import DEPTHS, Block, ResNetConfig, fold_batch_norm
from spaces.contract.compute import conv_macs, conv_output, linear_macs
from spaces.contract.task import Task

CIFAR = Task(channels=3, height=32, width=32, classes=10)
MNIST = Task(channels=1, height=28, width=28, classes=10)


@pytest.mark.parametrize(
    ("backbone", "blocks", "with_a", "with_b"),
    [
        ("resnet8", 3, 12_239_488, 12_501_632),
        ("resnet14", 6, 26_395_264, 26_657_408),
        ("resnet20", 9, 40_551_040, 40_813_184),
        ("resnet32", 15, 68_862_592, 69_124_736),
        ("resnet56", 27, 125_485_696, 125_747_840),
        ("resnet110", 54, 252_887_680, 253_149_824),
    ],
)
def test_macs_of_the_published_sizes(backbone: str, blocks: int, with_a: int, with_b: int) -> None:
    with torch.device("meta"):
        a = PlainResNet(ResNetConfig(backbone=backbone, shortcut="A"), CIFAR)
        b = PlainResNet(ResNetConfig(backbone=backbone, shortcut="B"), CIFAR)
    assert len(a.blocks) == blocks
    assert (a.total_macs(), b.total_macs()) == (with_a, with_b)
    assert a.ends_macs() == 442_368 + 640
    identity = [
        sum(b.block_macs(i))
        for i, one in enumerate(b.blocks)
        if isinstance(one, Block) and one.identity
    ]
    assert set(identity) == {4_718_592}
    downsampling = [
        b.block_macs(i)
        for i, one in enumerate(b.blocks)
        if isinstance(one, Block) and not one.identity
    ]
    assert [first + second for first, second, _ in downsampling] == [3_538_944, 3_538_944]
    assert [shortcut for *_, shortcut in downsampling] == [131_072, 131_072]


def test_macs_of_resnet20_on_gray_28_pixel_images() -> None:
    net = PlainResNet(ResNetConfig(backbone="resnet20", shortcut="A"), MNIST)
    assert net.total_macs() == 30_821_248
    assert net.ends_macs() == 112_896 + 640
    assert sum(sum(net.block_macs(i)) for i in range(9)) == 30_707_712


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("width", [0.25, 0.75, 1.5])
@pytest.mark.parametrize(("height", "width_px"), [(8, 8), (28, 28), (9, 13)])
def test_macs_are_what_torch_counts(
    shortcut: str, width: float, height: int, width_px: int
) -> None:
    task = Task(channels=1, height=height, width=width_px, classes=3)
    with torch.device("meta"):
        net = PlainResNet(
            ResNetConfig(backbone="resnet8", width=width, shortcut=shortcut), task
        ).eval()
        with FlopCounterMode(display=False) as counter:
            assert net(torch.empty(1, 1, height, width_px)).shape == (1, 3)
    assert counter.get_total_flops() == 2 * net.total_macs()


@pytest.mark.parametrize("backbone", DEPTHS)
def test_a_backbone_has_as_many_weight_layers_as_its_name_says(backbone: str) -> None:
    with torch.device("meta"):
        net = PlainResNet(ResNetConfig(backbone=backbone, shortcut="A"), CIFAR)
    layers = [p for name, p in net.named_parameters() if p.ndim > 1]
    assert f"resnet{len(layers)}" == backbone


def test_the_parameterless_shortcut_subsamples_and_pads_with_zeros() -> None:
    block = Block(4, 6, 2, "A")
    u = torch.randn(2, 4, 5, 5)
    skipped = block.skip(u)
    assert torch.equal(skipped[:, :4], u[:, :, ::2, ::2])
    assert (skipped[:, 4:] == 0).all()
    assert skipped.shape == block.residual(u).shape
    assert block.shortcut is None
    assert not block.identity


def test_a_closed_first_filter_is_zero_for_the_second_convolution() -> None:
    block = Block(4, 4, 1, "B").eval()
    torch.nn.init.uniform_(block.bn1.bias, 1, 2)
    u, inner = torch.randn(3, 4, 5, 5), torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    masked = block.residual(u, inner)
    with torch.no_grad():
        block.conv2.weight[:, [1, 3]] = 0
    torch.testing.assert_close(masked, block.residual(u))


def test_folding_batch_norm_into_its_convolution_changes_nothing() -> None:
    block = Block(4, 4, 2, "B").double().eval()
    for tensor in (block.bn1.running_mean, block.bn1.weight, block.bn1.bias):
        assert tensor is not None
        torch.nn.init.normal_(tensor)
    u = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    weight, bias = fold_batch_norm(block.conv1, block.bn1)
    torch.testing.assert_close(
        torch.nn.functional.conv2d(u, weight, bias, 2, 1),
        block.bn1(block.conv1(u)),
        rtol=1e-10,
        atol=1e-12,
    )


def test_macs_of_single_layers_worked_out_by_hand() -> None:
    conv = torch.nn.Conv2d(4, 6, (3, 5), stride=2, padding=(1, 2), groups=2)
    assert (conv_output(9, conv), conv_output(9, conv, axis=1)) == (5, 5)
    assert conv(torch.zeros(1, 4, 9, 9)).shape == (1, 6, 5, 5)
    assert conv_macs(conv, 5, 5) == 25 * 15 * 2 * 6
    assert linear_macs(torch.nn.Linear(7, 3)) == 21
    assert linear_macs(torch.nn.Linear(7, 3), tokens=65) == 1365
