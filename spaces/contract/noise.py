"""Gate noise that is a function of (seed, step, sample id, gate unit) and of nothing else.

A counter-based generator: the noise of a sample does not depend on its place in the batch, on its batch mates, on
which other samples were gathered, or on the device, and a resumed training needs no generator state to continue.
The mixing function is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA, 2014).

Shapes: B samples, U gate units.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def logistic_noise(seed: int, step: int, ids_B: Tensor, units: int) -> Tensor:
    """(B, U) float32 logistic noise log(u) - log(1 - u), u uniform in (0, 1) with 23 random bits.

    `ids_B` are int64 sample ids; equal (seed, step, id, unit) always give equal noise.
    """
    key = _signed(_mixed(_mixed(seed & _MASK) ^ (step & _MASK)))
    sample_B = _mix(ids_B * _signed(_GOLDEN) + key)
    unit_U = _mix(torch.arange(1, units + 1, device=ids_B.device) * _signed(_MIX_1))
    bits_BU = _shift(_mix(sample_B[:, None] ^ unit_U[None, :]), 41)
    # 23 bits, not 24: float32 has no 2**24 - 1 + 0.5, it would round to a uniform of 1 and infinite noise
    uniform_BU = (bits_BU.to(torch.float32) + 0.5) / 2**23
    return torch.log(uniform_BU) - torch.log1p(-uniform_BU)


def permutation(seed: int, step: int, size: int) -> tuple[int, ...]:
    """A permutation of range(size), the same for the same seed and step."""
    keys = logistic_noise(seed, step, torch.tensor([-1]), size)[0]  # an id that no sample has
    return tuple(keys.argsort(stable=True).tolist())


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX_2)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    # torch shifts int64 arithmetically; the mask takes the copied sign bits away
    return (x >> by) & ((1 << (64 - by)) - 1)


def _mixed(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x
