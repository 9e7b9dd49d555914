"""A block computed only on its open filters equals the masked one.

Shapes: B samples, C filters.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spaces.backbones.resnet import Block
from spaces.gates.block_execution import SMALLEST_GROUP, compact_residual

FILTERS = 6


def scrambled(block: Block) -> Block:
    generator = torch.Generator().manual_seed(0)
    for norm in (block.bn1, block.bn2):
        for tensor, low, high in (
            (norm.running_mean, -1, 1),
            (norm.running_var, 0.5, 2),
            (norm.bias, -1, 1),
        ):
            assert tensor is not None
            torch.nn.init.uniform_(tensor, low, high, generator=generator)
    return block.double().eval()


def block(stride: int = 1) -> Block:
    torch.manual_seed(0)
    return scrambled(Block(4, FILTERS, stride, "B"))


def inputs(count: int) -> Tensor:
    return torch.randn(
        count, 4, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def masks(count: int, patterns: int = 3, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    some = (torch.rand(patterns, FILTERS, generator=generator) > 0.5).double()
    return some[torch.randint(patterns, (count,), generator=generator)]


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def multiplications(one: Block, u: Tensor, inner: Tensor | None, outer: Tensor | None) -> int:
    with FlopCounterMode(display=False) as counter:
        compact_residual(one, u, inner, outer)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("n_inner", [0, 1, 5, FILTERS, None])
@pytest.mark.parametrize("n_outer", [0, 1, 5, FILTERS, None])
def test_gathered_filters_equal_masked_ones(
    stride: int, n_inner: int | None, n_outer: int | None
) -> None:
    one, u = block(stride), inputs(3)
    inner, outer = (
        None if n is None else (torch.arange(FILTERS) >= FILTERS - n)[None] * 1.0
        for n in (n_inner, n_outer)
    )
    same(compact_residual(one, u, inner, outer), one.residual(u, inner, outer))


@pytest.mark.parametrize("count", [1, 2, SMALLEST_GROUP - 1, SMALLEST_GROUP, 40])
@pytest.mark.parametrize("stride", [1, 2])
def test_samples_with_different_masks_come_back_in_their_places(count: int, stride: int) -> None:
    one, u = block(stride), inputs(count)
    inner, outer = masks(count), masks(count, seed=5)
    for pair in (
        (inner, None),
        (None, outer),
        (inner, outer),
        (inner, outer[:1]),
        (inner[:1], outer),
    ):
        same(compact_residual(one, u, *pair), one.residual(u, *pair))


def test_groups_without_any_open_filter_stand_beside_others() -> None:
    one, u = block(), inputs(3 * SMALLEST_GROUP)
    inner = torch.cat(
        [torch.zeros(SMALLEST_GROUP, FILTERS), torch.ones(2 * SMALLEST_GROUP, FILTERS)]
    )
    outer = torch.cat(
        [torch.ones(2 * SMALLEST_GROUP, FILTERS), torch.zeros(SMALLEST_GROUP, FILTERS)]
    )
    same(compact_residual(one, u, inner, outer), one.residual(u, inner, outer))


def test_a_mask_between_0_and_1_scales_its_filter() -> None:
    one, u = block(), inputs(2)
    inner = torch.tensor([[0.5, 0.0, 1.0, 0.25, 1.0, 0.1]], dtype=torch.float64)
    same(compact_residual(one, u, inner, inner.flip(1)), one.residual(u, inner, inner.flip(1)))


def test_with_no_open_inner_filter_the_second_norms_shift_remains() -> None:
    one, u = block(), inputs(2)
    assert one.bn2.running_mean is not None
    assert one.bn2.running_var is not None
    found = compact_residual(one, u, torch.zeros(1, FILTERS))
    shift = (
        one.bn2.bias
        - one.bn2.running_mean * one.bn2.weight / (one.bn2.running_var + one.bn2.eps).sqrt()
    )
    same(found, shift[None, :, None, None].expand_as(found))
    assert found.abs().min().item() > 0


def test_a_block_that_masks_before_its_norm_does_not_equal_its_gathered_self() -> None:
    class MaskedTooEarly(Block):
        def residual(
            self, u: Tensor, inner: Tensor | None = None, outer: Tensor | None = None
        ) -> Tensor:
            h = self.conv1(u)
            if inner is not None:
                h = h * inner[:, :, None, None]
            return self.bn2(self.conv2(F.relu(self.bn1(h))))

    torch.manual_seed(0)
    mutant, u = scrambled(MaskedTooEarly(4, FILTERS, 1, "B")), inputs(3)
    inner = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    same(
        compact_residual(mutant, u, torch.ones(1, FILTERS)),
        mutant.residual(u, torch.ones(1, FILTERS)),
    )
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        same(compact_residual(mutant, u, inner), mutant.residual(u, inner))


@pytest.mark.parametrize(("n_inner", "n_outer"), [(0, 6), (6, 0), (0, 0), (1, 6), (2, 3), (6, 6)])
def test_closed_filters_are_not_multiplied(n_inner: int, n_outer: int) -> None:
    inner, outer = ((torch.arange(FILTERS) < n)[None] * 1.0 for n in (n_inner, n_outer))
    expected = 49 * 9 * (4 * n_inner + n_inner * n_outer) if n_outer else 0
    assert multiplications(block(), inputs(1), inner, outer) == expected


def test_only_large_groups_are_gathered() -> None:
    full = 49 * 9 * (4 * FILTERS + FILTERS * FILTERS)
    half = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    gathered = 49 * 9 * (4 * 3 + 3 * FILTERS)
    rest = half.flip(1)
    inner = torch.cat([half.expand(SMALLEST_GROUP, -1), rest.expand(SMALLEST_GROUP - 1, -1)])
    found = multiplications(block(), inputs(len(inner)), inner, None)
    assert found == SMALLEST_GROUP * gathered + (SMALLEST_GROUP - 1) * full
    assert multiplications(block(), inputs(2), half.expand(2, -1), None) == 2 * gathered
