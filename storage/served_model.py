"""The code of a registered model, as MLflow runs it: images in, classes and probabilities out. Without dynafront.

MLflow copies this file beside the model's files, so it imports nothing of ours. `predict` takes images as bytes of a
file, as the base64 text of those, as uint8 arrays (H, W) or (H, W, 3), in a list, a data frame's only column or the
value of a dictionary; or prepared pixels, float32 (N, channels, height, width) in [0, 1]. The parameter `point` is the
number of an operating point that the card lists; 0 is the one that was exported.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from PIL import Image, ImageOps


class ServedModel(PythonModel):
    """An exported folder, the artifact `model`."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["model"])
        self.description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns that thresholds are no constants
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    # without type hints: MLflow would read them, and warn
    def predict(self, context, model_input, params=None):
        """A row an image: class, probability, macs (that the image took), probabilities (of all classes, in order)."""
        thresholds = self._thresholds(int((params or {}).get("point") or 0))
        return pd.DataFrame([self._row(one, thresholds) for one in images_in(model_input)])

    def _row(self, image: Any, thresholds: list[float]) -> dict[str, Any]:
        given = {"pixels": pixels_of(image, self.description)}
        if thresholds:
            given["thresholds"] = np.array(thresholds, np.float64)
        logits, macs = self.session.run(["logits", "macs"], given)
        odds = np.exp(logits[0].astype(np.float64) - logits[0].max())
        odds /= odds.sum()
        best = int(odds.argmax())
        return {
            "class": self.description["classes"][best],
            "probability": float(odds[best]),
            "macs": float(macs[0]),
            "probabilities": [float(one) for one in odds],
        }

    def _thresholds(self, point: int) -> list[float]:
        points = self.description.get("points", [])
        if not point:
            return []
        if not 1 <= point <= len(points):
            raise ValueError(f"point {point}: the model has points 1 to {len(points)}")
        return list(points[point - 1]["thresholds"])


def images_in(given: Any) -> list[Any]:
    """The images of what was sent, each as bytes, text or array. Raises ValueError for what holds none."""
    if isinstance(given, pd.DataFrame):
        if len(given.columns) != 1:
            raise ValueError(f"the table has columns {list(given.columns)}; send one, of images")
        return list(given.iloc[:, 0])
    if isinstance(given, dict):
        if len(given) != 1:
            raise ValueError(f"the dictionary has keys {list(given)}; send one, with images")
        return images_in(next(iter(given.values())))
    if isinstance(given, bytes | str):
        return [given]
    if isinstance(given, np.ndarray) and given.dtype.kind in "iu":
        given = _bytes(given)
        if given.ndim == 2 or (given.ndim == 3 and given.shape[2] == 3):
            return [given]
    return list(given)


def pixels_of(image: Any, description: dict[str, Any]) -> np.ndarray:
    """(1, channels, height, width) float32 in [0, 1]: prepared as the training images were."""
    task, how = description["task"], description["preprocessing"]
    shape = (task["channels"], task["height"], task["width"])
    if isinstance(image, list):  # as JSON has arrays
        image = np.array(image)
    if isinstance(image, np.ndarray) and image.dtype.kind in "iu":
        image = _bytes(image)
        if image.shape == shape and image.max(initial=0) <= 1:  # prepared, all black or white
            image = image.astype(np.float32)
    if isinstance(image, np.ndarray) and image.dtype.kind == "f":
        if image.shape != shape:
            raise ValueError(f"pixels of shape {image.shape}; the model takes {shape}, or uint8")
        return image[None].astype(np.float32)
    picture = _opened(image)
    size = (task["width"], task["height"])
    twice = 2 * ceil(max(size) / how.get("crop_pct", 1.0))
    picture.draft(None, (twice, twice))  # decodes a large JPEG faster
    picture = _eight_bit(ImageOps.exif_transpose(picture), how)
    picture = picture.convert("L" if task["channels"] == 1 else "RGB")
    picture = _fitted(picture, size, how)
    array = np.asarray(picture, dtype=np.float32) / 255
    array = array[None] if task["channels"] == 1 else array.transpose(2, 0, 1)
    return np.ascontiguousarray(array)[None]


def _bytes(pixels: np.ndarray) -> np.ndarray:
    """Whole numbers as uint8; what was sent as JSON is int64. Raises ValueError for what no byte holds."""
    if pixels.dtype == np.uint16:  # gray of 16 bits
        return pixels
    low, high = int(pixels.min(initial=0)), int(pixels.max(initial=0))
    if low < 0 or high > 255:
        raise ValueError(f"pixels are whole numbers from {low} to {high}: send them from 0 to 255")
    return pixels.astype(np.uint8)


def _opened(image: Any) -> Image.Image:
    if isinstance(image, np.ndarray):
        try:
            return Image.fromarray(image)
        except TypeError:
            what = f"pixels are {image.dtype} of shape {image.shape}"
            raise ValueError(f"{what}: send uint8 of (H, W) or (H, W, 3)") from None
    if isinstance(image, str):
        text = image.partition(",")[2] if image.startswith("data:") else image
        try:
            image = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise ValueError("the text is not the base64 of an image file") from None
    return Image.open(io.BytesIO(image))


def _eight_bit(image: Image.Image, how: dict[str, Any]) -> Image.Image:
    """The image with 8 bits a channel and nothing transparent."""
    if image.mode == "F":
        raise ValueError("floating-point pixels: send 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # gray, more than 8 bits
        bits = how["bits"]
        deep = np.asarray(image).clip(0, 2**bits - 1)
        return Image.fromarray((deep >> max(0, bits - 8)).astype(np.uint8))
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, how["background"]), image)
    return image.convert("RGB") if image.mode == "P" else image


def _fitted(image: Image.Image, size: tuple[int, int], how: dict[str, Any]) -> Image.Image:
    """The image at the size (width, height) that the network takes."""
    (width, height), share = size, how.get("crop_pct", 1.0)
    name = how.get("interpolation", "bilinear")
    kind = Image.Resampling.BICUBIC if name == "bicubic" else Image.Resampling.BILINEAR
    if image.size == size and share == 1:
        return image
    if how["resize"] == "pad":
        frame = round(width / share), round(height / share)
        x, y = (frame[0] - width) // 2, (frame[1] - height) // 2
        return ImageOps.pad(image, frame, kind).crop((x, y, x + width, y + height))
    across, down = image.width / width, image.height / height
    if how["resize"] == "crop":
        across = down = min(across, down)
    across = min(image.width, across * share * width)
    down = min(image.height, down * share * height)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    return image.resize(size, kind, box=(left, top, left + across, top + down))


set_model(ServedModel())
