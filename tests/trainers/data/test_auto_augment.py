"""Random shapes and colours: torchvision's operations, drawn an image."""

from __future__ import annotations

from collections.abc import Callable
from math import atan, degrees

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from trainers.data import auto_augment
from trainers.data.auto_augment import rand_augmented, trivially_augmented


def images(count: int = 8, channels: int = 3, height: int = 20, width: int = 24) -> Tensor:
    """Smooth images: one pixel's difference is a small one."""
    draws = torch.Generator().manual_seed(0)
    small = torch.rand(count, channels, 5, 6, generator=draws)
    smooth = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return (smooth * 255).to(torch.uint8)


def affine(image: Tensor, shear: tuple[float, float] = (0, 0), **moves: list[int]) -> Tensor:
    moves = {"translate": [0, 0], **moves}
    return F.affine(image, angle=0.0, scale=1.0, shear=list(shear), **moves)


def sheared(image: Tensor, strength: float, axis: int) -> Tensor:
    angle = degrees(atan(strength))
    return affine(image, (angle, 0) if axis == 0 else (0, angle), center=[0, 0])


# torchvision's own operation for each, in the order of the table; strengths that differ between images
REFERENCES: dict[int, tuple[list[float], Callable[[Tensor, float], Tensor]]] = {
    0: ([0.1, -0.2, 0.3], lambda i, s: sheared(i, s, 0)),
    1: ([0.1, -0.2, 0.3], lambda i, s: sheared(i, s, 1)),
    2: ([3.0, -5.0, 0.0], lambda i, s: affine(i, translate=[-int(s), 0])),
    3: ([3.0, -5.0, 0.0], lambda i, s: affine(i, translate=[0, -int(s)])),
    4: ([10.0, -25.0, 100.0], F.rotate),
    5: ([0.4, -0.5, 0.9], lambda i, s: F.adjust_brightness(i, 1 + s)),
    6: ([0.4, -0.5, 0.9], lambda i, s: F.adjust_saturation(i, 1 + s)),
    7: ([0.4, -0.5, 0.9], lambda i, s: F.adjust_contrast(i, 1 + s)),
    8: ([0.4, -0.5, 0.9], lambda i, s: F.adjust_sharpness(i, 1 + s)),
    9: ([8, 5, 2], lambda i, s: F.posterize(i, int(s))),
    10: ([255.0, 128.0, 40.0], F.solarize),
    11: ([0.0, 0.0, 0.0], lambda i, _: F.autocontrast(i)),
    12: ([0.0, 0.0, 0.0], lambda i, _: F.equalize(i)),
}


@pytest.mark.parametrize("number", REFERENCES)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_changed_as_torchvision_changes_one(number: int, channels: int) -> None:
    strengths, reference = REFERENCES[number]
    before = images(3, channels)
    operation = auto_augment._WIDE[number]
    after = operation.transform(before, torch.tensor(strengths))
    assert after.dtype == torch.uint8
    for image, result, strength in zip(before, after, strengths, strict=True):
        # nearest pixels and half values may round to either side
        off = (result.int() - reference(image, strength).int()).abs()
        assert (off > 1).double().mean() < 0.04, number
    assert len(REFERENCES) == len(auto_augment._WIDE) == len(auto_augment._RAND)


def test_the_strongest_operations_are_those_of_torchvision() -> None:
    last = [op.levels[-1] for op in auto_augment._RAND]
    assert last == pytest.approx([0.3, 0.3, 150, 150, 30, 0.9, 0.9, 0.9, 0.9, 4, 0, 0, 0])
    last = [op.levels[-1] for op in auto_augment._WIDE]
    assert last == pytest.approx([0.99, 0.99, 32, 32, 135, 0.99, 0.99, 0.99, 0.99, 2, 0, 0, 0])


def changed(before: Tensor, seed: int) -> list[Tensor]:
    return [
        rand_augmented(before, np.random.default_rng(seed), operations=2, magnitude=9),
        trivially_augmented(before, np.random.default_rng(seed)),
    ]


def test_every_image_has_its_own_draws() -> None:
    before = images(1).expand(64, -1, -1, -1).contiguous()
    for after in changed(before, 0):
        assert len({result.numpy().tobytes() for result in after}) > 15


def test_the_same_draws_change_alike_and_the_input_stays() -> None:
    before = images(32)
    kept = before.clone()
    for one, same, other in zip(
        changed(before, 1), changed(before, 1), changed(before, 2), strict=True
    ):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
    assert torch.equal(before, kept)
