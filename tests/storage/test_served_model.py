"""What a registered model makes of what it is sent."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.slow,  # MLflow takes seconds to load
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of MLflow, which wants type hints
]
SHAPE = {"channels": 3, "height": 20, "width": 24}


def described(resize: str = "crop", bits: int = 16, **task: int) -> dict[str, Any]:
    how = {"resize": resize, "bits": bits, "background": "white"}
    return {"task": SHAPE | task, "preprocessing": how}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "LA"])
@pytest.mark.parametrize(("resize", "bits"), [("crop", 16), ("pad", 12), ("squash", 8)])
@pytest.mark.parametrize("frame", [(1.0, "bilinear"), (0.8, "bicubic")])
def test_images_are_prepared_as_in_training(
    channels: int, mode: str, resize: Any, bits: int, frame: Any
) -> None:
    from storage.served_model import pixels_of
    from trainers.data.decode import Geometry, decoded

    pixels = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 20)
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(pixels[..., 1]))
    file, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6
    picture.convert(mode).save(file, "png", exif=turned)
    ours = decoded(Geometry(channels, 20, 24, resize, bits, *frame), "x", file.getvalue())
    description = described(resize, bits, channels=channels)
    description["preprocessing"] |= dict(zip(("crop_pct", "interpolation"), frame, strict=True))
    served = pixels_of(file.getvalue(), description)
    np.testing.assert_array_equal(served[0], ours.astype(np.float32) / 255)


def test_an_image_whose_part_is_as_large_as_itself_is_taken() -> None:
    from storage.served_model import pixels_of

    file = io.BytesIO()
    Image.new("RGB", (196, 282), "red").save(file, "png")
    # (196 / 183) * 183 is more than 196 in floating-point numbers
    assert pixels_of(file.getvalue(), described(height=183, width=183)).shape == (1, 3, 183, 183)


def test_whatever_holds_images_is_taken_apart() -> None:
    from storage.served_model import images_in

    image = np.zeros((5, 4, 3), np.uint8)
    assert images_in(b"x") == [b"x"]
    assert images_in("x") == ["x"]
    assert images_in(["x", "y"]) == images_in(np.array(["x", "y"])) == ["x", "y"]
    assert images_in(pd.DataFrame({"image": ["x"]})) == images_in({"image": ["x"]}) == ["x"]
    assert [one.shape for one in images_in(image)] == [(5, 4, 3)]
    assert [one.shape for one in images_in(image[..., 0])] == [(5, 4)]
    assert [one.shape for one in images_in(np.zeros((2, 5, 4), np.uint8))] == [(5, 4)] * 2
    with pytest.raises(ValueError, match="send one, of images"):
        images_in(pd.DataFrame({"a": ["x"], "b": ["y"]}))
    with pytest.raises(ValueError, match="send one, with images"):
        images_in({"a": 1, "b": 2})


def test_base64_may_be_a_data_url_and_pixels_are_taken_as_they_are() -> None:
    from storage.served_model import pixels_of

    file = io.BytesIO()
    Image.new("RGB", (24, 20), "red").save(file, "png")
    text = base64.b64encode(file.getvalue()).decode()
    plain = pixels_of(text, described())
    np.testing.assert_array_equal(pixels_of(f"data:image/png;base64,{text}", described()), plain)
    np.testing.assert_array_equal(pixels_of(plain[0], described()), plain)
    np.testing.assert_array_equal(pixels_of(plain[0].tolist(), described()), plain)
    with pytest.raises(ValueError, match="is not the base64 of an image file"):
        pixels_of("no image!", described())
    with pytest.raises(ValueError, match=r"the model takes \(3, 20, 24\), or uint8"):
        pixels_of(np.zeros((8, 8), np.float32), described())


def test_whole_numbers_are_bytes_as_json_has_them() -> None:
    from storage.served_model import images_in, pixels_of

    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    known = pixels_of(image, described())
    for sent in (image.astype(np.int64), image[None].astype(np.int64), [image.tolist()]):
        (one,) = images_in(sent)
        np.testing.assert_array_equal(pixels_of(one, described()), known)
    black = np.zeros((2, 3, 20, 24), np.int64)
    assert [pixels_of(one, described()).max() for one in images_in(black)] == [0, 0]
    for wrong in (image.astype(np.int64) + 1, image.astype(np.int64) - 1):
        with pytest.raises(ValueError, match="send them from 0 to 255"):
            images_in(wrong)
        with pytest.raises(ValueError, match="send them from 0 to 255"):
            pixels_of(wrong.tolist(), described())
    with pytest.raises(ValueError, match=r"shape \(40, 30, 5\): send uint8 of"):
        pixels_of(np.zeros((40, 30, 5), np.int64), described())


def test_floating_point_pixels_of_a_file_are_refused_as_in_training() -> None:
    from storage.served_model import pixels_of

    file = io.BytesIO()
    Image.fromarray(np.ones((20, 24), np.float32)).save(file, "tiff")
    with pytest.raises(ValueError, match="floating-point pixels"):
        pixels_of(file.getvalue(), described())
