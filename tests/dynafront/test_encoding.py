"""Images as programs have them become files without loss."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dynafront.encoding import encoded

DEEP = np.array([[0, 255, 256], [1000, 40_000, 65_535]])


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(Image.fromarray(DEEP.astype(np.int32)), id="I"),
        pytest.param(Image.fromarray(DEEP.astype("<u2")), id="I;16"),
        pytest.param(Image.fromarray(DEEP.astype(">u2")), id="I;16B"),
    ],
)
def test_gray_keeps_its_16_bits(image: Image.Image, request: pytest.FixtureRequest) -> None:
    assert image.mode == request.node.callspec.id
    again = Image.open(io.BytesIO(encoded(image)))
    assert np.asarray(again).tolist() == DEEP.tolist()


def test_gray_of_32_bits_ends_where_16_bits_do() -> None:
    wide = Image.fromarray(np.array([[-5, 7, 70_000]], np.int32))
    again = Image.open(io.BytesIO(encoded(wide)))
    assert np.asarray(again).tolist() == [[0, 7, 65_535]]


def test_floating_point_pixels_of_a_pil_image_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point pixels"):
        encoded(Image.fromarray(np.zeros((2, 2), np.float32)))
