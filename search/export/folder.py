"""What lies in an exported folder: its files, its description, and how an image is prepared for it. Without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from search.export.extras import OPTIONAL
from spaces.contract.error_lines import first_line
from spaces.contract.task import Task
from storage.records import Kind
from trainers.data.decode import Geometry, decoded
from trainers.data.images import Stored

if TYPE_CHECKING:
    from trainers.data.splits import ImageData

FORMAT = 2
MODEL, WEIGHTS, ONNX = "model.json", "model.safetensors", "model.onnx"
PT2 = "model.pt2"  # a program of torch.export
THRESHOLDS = "thresholds"  # input of the ONNX file that may be left out
BATCHES = (1, 64)  # at which latency is measured
PICTURES = "inspect"  # folder beside them, of a registered model
CARD = "README.md"
OWN = (MODEL, WEIGHTS, ONNX, CARD, *OPTIONAL)


def is_exported(name: str) -> bool:
    """Whether a file of this path in an exported folder is of the export."""
    return name in OWN or name.startswith(f"{PICTURES}/")


def exported_point(folder: Path) -> tuple[str, tuple[Kind, int], dict[str, Any]]:
    """(study, training, knobs) that an exported model came from. Raises ValueError for a damaged one."""
    try:
        description = json.loads((folder / MODEL).read_text(encoding="utf-8-sig"))
        training = Kind(description.get("kind", "search")), int(description["trial"])
        return str(description["study"]), training, dict(description["knobs"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{folder / MODEL}: is damaged; export the model again") from None


def incomplete(folder: Path, error: Exception) -> ValueError:
    """That the files of the folder do not fit each other, in one line."""
    return ValueError(
        f"{folder}: does not hold together ({first_line(error)}); export the model again"
    )


def preprocessing_of(data: ImageData) -> dict[str, Any]:
    """How an image becomes pixels, as model.json says it; what is as it mostly is, is left out."""
    how: dict[str, Any] = {"resize": data.resize, "bits": data.bits, "background": "white"}
    if data.crop_pct != 1:
        how["crop_pct"] = data.crop_pct
    if data.interpolation != "bilinear":
        how["interpolation"] = data.interpolation
    return how


def prepared(
    image: Stored, task: Task, preprocessing: Mapping[str, Any] = MappingProxyType({})
) -> np.ndarray:
    """(1, C, H, W) float32 pixels in [0, 1] of an image, prepared as `preprocessing` of model.json says.

    Raises ValueError for a broken image.
    """
    names = ("resize", "bits", "crop_pct", "interpolation")
    how = {key: preprocessing[key] for key in names if key in preprocessing}
    geometry = Geometry(task.channels, task.height, task.width, **how)
    name = str(image) if isinstance(image, Path) else "the image"
    return decoded(geometry, name, image)[None].astype(np.float32) / 255
