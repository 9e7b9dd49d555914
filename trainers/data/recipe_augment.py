"""What a recipe does to a step's training images: shape and colours first, then, of normalised pixels, mixing.

Draws depend on (seed, step) and the kind of change alone, and are made on the CPU: every device gets the same.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from spaces.contract.recipe import Recipe
from spaces.contract.truth import Labels, Truth
from trainers.data.augment import augmented, centre, eighth
from trainers.data.auto_augment import rand_augmented, trivially_augmented
from trainers.data.auto_policy import auto_augmented
from trainers.data.mixing import erased, mixed
from trainers.data.resized_crop import resized_crops

# kinds of draws, so that one is the same whatever else the recipe does
CROP, OPERATIONS, ERASING, MIXING = range(1, 5)


def changed(
    images_BCHW: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    step: int,
    flip: bool,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """uint8 images cropped, mirrored where `flip` allows it, their shapes and colours changed, as the recipe says.

    `size` is the height and width that networks read, where the images are larger: parts are then cut out of all of an
    image, and the centre where the recipe changes nothing.
    """
    size = size or (images_BCHW.shape[-2], images_BCHW.shape[-1])
    if not recipe.augment:
        return centre(images_BCHW, size)
    if recipe.crop == "resized":
        draws = np.random.default_rng((seed, step, CROP))
        images_BCHW = resized_crops(
            images_BCHW, draws, least=recipe.crop_least, flip=flip, size=size
        )
    else:
        images_BCHW = augmented(
            images_BCHW,
            seed=seed,
            step=step,
            flip=flip,
            pad=eighth(size),
            border=recipe.shift_border,
        )
        images_BCHW = centre(images_BCHW, size)
    draws = np.random.default_rng((seed, step, OPERATIONS))
    if recipe.auto_augment == "rand":
        return rand_augmented(
            images_BCHW, draws, operations=recipe.rand_operations, magnitude=recipe.rand_magnitude
        )
    if recipe.auto_augment == "auto":
        return auto_augmented(images_BCHW, draws)
    return (
        trivially_augmented(images_BCHW, draws) if recipe.auto_augment == "trivial" else images_BCHW
    )


def blended(
    pixels_BCHW: Tensor, labels_B: Tensor, classes: int, recipe: Recipe, *, seed: int, step: int
) -> tuple[Tensor, Labels]:
    """Normalised images erased in part and mixed in pairs, as the recipe says, and what they show."""
    if recipe.erasing:
        draws = np.random.default_rng((seed, step, ERASING))
        pixels_BCHW = erased(pixels_BCHW, draws, probability=recipe.erasing)
    if not (recipe.mixup or recipe.cutmix):
        return pixels_BCHW, labels_B
    pixels_BCHW, shares = mixed(
        pixels_BCHW,
        labels_B,
        classes,
        np.random.default_rng((seed, step, MIXING)),
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
    )
    return pixels_BCHW, Truth(labels_B, shares)
