"""The part of an image that is resized lies within it, whatever the two sizes are."""

from __future__ import annotations

import numpy as np
import pytest

from trainers.data.decode import Geometry, Resize, decoded


@pytest.mark.parametrize("resize", ["crop", "squash"])
@pytest.mark.parametrize("side", [13, 29, 146, 183])
def test_the_whole_of_an_image_of_any_size_is_taken(side: int, resize: Resize) -> None:
    # (196 / 183) * 183 is more than 196 in floating-point numbers
    for across in range(side, 2 * side):
        pixels = np.zeros((across + 3, across, 3), dtype=np.uint8)
        geometry = Geometry(3, side, side, resize)
        assert decoded(geometry, "image", pixels).shape == (3, side, side)
