"""Crops, mixing and erasing, each image with its own draws, and what mixed images show."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from spaces.contract.recipe import Recipe
from spaces.contract.truth import Truth
from trainers.data.mixing import erased, mixed
from trainers.data.recipe_augment import blended, changed
from trainers.data.resized_crop import boxes, resized_crops


def images(count: int = 16) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 12, 16), dtype=torch.uint8, generator=draws)


def test_a_resized_crop_is_that_part_of_the_image_as_torchvision_resizes_it() -> None:
    before = images()
    after = resized_crops(before, np.random.default_rng(3), least=0.2, flip=False)
    parts = boxes(np.random.default_rng(3), len(before), 12, 16, 0.2).T.tolist()
    for image, result, (top, left, height, width) in zip(before, after, parts, strict=True):
        expected = V.resized_crop(image, top, left, height, width, [12, 16], antialias=False)
        inner = (
            ...,
            slice(2, -2),
            slice(2, -2),
        )  # at its edge a part is read beyond it, not repeated
        assert (result[inner].int() - expected[inner].int()).abs().max() <= 1


def test_a_recipe_says_what_comes_in_where_an_image_is_shifted() -> None:
    white = torch.full((16, 1, 16, 16), 255, dtype=torch.uint8)
    borders = [
        changed(white, Recipe(shift_border=border), seed=0, step=0, flip=False)
        for border in ("reflect", "zero")
    ]
    assert (borders[0] == 255).all()
    assert (borders[1] == 0).any()
    assert (borders[1][:, :, 2:-2, 2:-2] == 255).all()


@pytest.mark.parametrize("size", [(8, 48), (48, 8), (16, 16)])
def test_an_image_is_shifted_by_up_to_an_eighth_of_each_side(size: tuple[int, int]) -> None:
    white = torch.full((256, 1, *size), 255, dtype=torch.uint8)
    shifted = changed(white, Recipe(shift_border="zero"), seed=0, step=0, flip=False)
    for dim, side in enumerate(size, start=1):
        black = (shifted[:, 0] == 0).all(3 - dim).sum(1)
        assert int(black.max()) == side // 8


def test_parts_are_cut_out_of_all_of_a_larger_image() -> None:
    framed = torch.zeros(64, 1, 20, 24, dtype=torch.uint8)
    framed[..., :2, :] = 255  # the centre of 16 x 16 does not show it
    seen = partial(changed, framed, seed=0, step=0, flip=False, size=(16, 16))
    for crop in ({"crop": "resized"}, {"crop": "shift"}, {"crop": "shift", "shift_border": "zero"}):
        parts = seen(Recipe(**crop))
        assert parts.shape == (64, 1, 16, 16)
        shown = (parts > 128).flatten(1).any(1)
        assert 0 < shown.sum() < 64, crop
    assert (seen(Recipe(augment=False)) == 0).all()


def test_a_larger_image_that_is_shifted_shows_itself_before_a_border() -> None:
    white = torch.full((32, 1, 20, 20), 255, dtype=torch.uint8)
    recipe = Recipe(shift_border="zero")
    shift = partial(changed, recipe=recipe, seed=0, step=0, flip=False)
    assert (shift(white, size=(16, 16)) == 255).all(), (
        "by 2 pixels, as many as lie around the centre"
    )
    assert (shift(white[..., :16, :16]) == 0).any()


def test_crops_have_the_shares_and_shapes_that_are_asked_for() -> None:
    top, left, height, width = boxes(np.random.default_rng(0), 4000, 100, 80, 0.3)
    share, ratio = height * width / 8000, width / height
    assert 0.29 < share.min() < 0.32
    assert 0.98 < share.max() <= 1
    assert 0.73 < ratio.min() < ratio.max() < 1.36
    assert ((top >= 0) & (top + height <= 100) & (left >= 0) & (left + width <= 80)).all()


def test_half_of_the_crops_are_mirrored_where_that_is_allowed() -> None:
    before = images(64)
    plain = resized_crops(before, np.random.default_rng(3), least=1.0, flip=False)
    after = resized_crops(before, np.random.default_rng(3), least=1.0, flip=True)
    mirrored = [torch.equal(a, p.flip(2)) for a, p in zip(after, plain, strict=True)]
    same = [torch.equal(a, p) for a, p in zip(after, plain, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True))
    assert 20 < sum(mirrored) < 44


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_labels_are_mixed_as_the_pixels_are(mixup: float, cutmix: float) -> None:
    # images of 1 and of 0 in turn: the mean pixel says how much of its own an image has kept
    pixels = (torch.arange(64) % 2).float()[:, None, None, None].expand(64, 1, 10, 10)
    labels = torch.arange(64) % 2
    draws = np.random.default_rng(1)
    after, shares = mixed(pixels, labels, 3, draws, mixup=mixup, cutmix=cutmix)
    torch.testing.assert_close(after.mean((1, 2, 3)), shares[:, 1])
    torch.testing.assert_close(shares.sum(1), torch.ones(64))
    assert len({round(float(s), 4) for s in shares[:, 1]}) > 20, "a share an image"
    cut = [bool(((one == 0) | (one == 1)).all()) for one in after]
    assert all(cut) if not mixup else not all(cut)
    assert not cutmix or any(cut)


def test_erased_rectangles_lie_in_about_as_many_images_as_asked_for() -> None:
    after = erased(torch.ones(400, 2, 20, 20), np.random.default_rng(0), probability=0.25)
    gone = 1 - after.mean((1, 2, 3))
    assert 70 < int((gone > 0).sum()) < 130
    assert float(gone.max()) <= 0.36
    assert torch.equal(after[:, 0], after[:, 1]), "all channels of a pixel"


CHANGES = {
    "resized": {"crop": "resized"},
    "rand": {"auto_augment": "rand"},
    "trivial": {"auto_augment": "trivial"},
    "auto": {"auto_augment": "auto"},
    "erasing": {"erasing": 0.5},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
}


def after(recipe: Recipe, step: int) -> tuple[Tensor, Tensor]:
    made = changed(images(), recipe, seed=1, step=step, flip=True)
    pixels, labels = blended(made.float(), torch.arange(16) % 4, 4, recipe, seed=1, step=step)
    shares = labels.shares_BC if isinstance(labels, Truth) else F.one_hot(labels, 4).float()
    assert shares is not None
    return pixels, shares


@pytest.mark.parametrize("name", CHANGES)
def test_changes_depend_on_seed_and_step_alone(name: str) -> None:
    recipe = replace(Recipe(), **CHANGES[name])
    one = after(recipe, 2)
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(one, after(recipe, 2), strict=True))
    assert not torch.equal(one[0], after(recipe, 3)[0])
    assert not torch.equal(one[0], after(Recipe(), 2)[0])


def test_the_default_recipe_shifts_and_mirrors_and_leaves_labels_alone() -> None:
    labels = torch.arange(16) % 4
    pixels = images().float()
    same, untouched = blended(pixels, labels, 4, Recipe(), seed=0, step=0)
    assert same is pixels
    assert untouched is labels
