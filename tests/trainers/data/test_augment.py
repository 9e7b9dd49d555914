from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainers.data.augment import augmented, normalized


def images(count: int = 64, height: int = 5, width: int = 7) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=draws)


def crops(image_CHW: Tensor, pad: int, flip: bool, mode: str) -> list[Tensor]:
    """Every image that augmentation may make of one, by torch's own padding."""
    height, width = image_CHW.shape[1:]
    padded = torch.nn.functional.pad(image_CHW[None].float(), (pad,) * 4, mode=mode)[0].to(
        torch.uint8
    )
    shifts = [(top, left) for top in range(2 * pad + 1) for left in range(2 * pad + 1)]
    found = [padded[:, top : top + height, left : left + width] for top, left in shifts]
    return found + [crop.flip(2) for crop in found] if flip else found


@pytest.mark.parametrize(("border", "mode"), [("reflect", "reflect"), ("zero", "constant")])
@pytest.mark.parametrize("flip", [True, False])
def test_each_image_becomes_one_of_the_crops_of_its_padded_self(
    flip: bool, border: str, mode: str
) -> None:
    before = images()
    chosen = []
    after = augmented(before, seed=1, step=2, flip=flip, pad=(2, 2), border=border)
    for image, result in zip(before, after, strict=True):
        matches = [torch.equal(result, crop) for crop in crops(image, 2, flip, mode)]
        assert any(matches)
        chosen.append(matches.index(True))
    assert len(set(chosen)) > 15
    assert flip == any(choice >= 25 for choice in chosen)


def test_the_draws_depend_on_seed_and_step_alone() -> None:
    before = images()
    first = augmented(before, seed=1, step=2, flip=True, pad=(2, 2))
    torch.manual_seed(99)
    assert torch.equal(first, augmented(before, seed=1, step=2, flip=True, pad=(2, 2)))
    assert not torch.equal(first, augmented(before, seed=1, step=3, flip=True, pad=(2, 2)))
    assert not torch.equal(first, augmented(before, seed=2, step=2, flip=True, pad=(2, 2)))


def test_without_padding_and_flip_nothing_changes() -> None:
    assert torch.equal(images(), augmented(images(), seed=0, step=0, flip=False, pad=(0, 0)))


def test_padding_as_large_as_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^pad: 7 does not fit images of 5x7: give 0 to 6$"):
        augmented(images(), seed=0, step=0, flip=False, pad=(4, 7))


def test_normalized_pixels_have_the_value_worked_out_by_hand() -> None:
    pixels = torch.tensor([[[[0]], [[255]], [[51]]]], dtype=torch.uint8)
    result = normalized(pixels, (0.5, 0.5, 0.1), (0.5, 0.25, 0.2))
    assert result.flatten().tolist() == pytest.approx([-1.0, 2.0, 0.5])
    assert normalized(pixels, (0.5,) * 3, (0.5,) * 3, torch.bfloat16).dtype == torch.bfloat16
