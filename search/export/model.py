"""Reading an exported model back: rebuild, load, preprocess, predict. Needs neither the study nor its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from search.export.description import check_file, read_description
from search.export.folder import WEIGHTS, incomplete, prepared
from spaces.contract.task import Task
from spaces.deploy.ship import DeployedNet, rebuild
from trainers.data.images import Stored


@dataclass(frozen=True)
class Model:
    """An exported classifier and what its model.json says."""

    net: DeployedNet
    description: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        return list(self.description["classes"])

    def pixels(self, image: Stored) -> Tensor:
        """(1, C, H, W) pixels in [0, 1] of an image, prepared as the training images were."""
        return pixels_of(image, self.net.task, self.description.get("preprocessing", {}))

    def predict(
        self, image: Stored, thresholds: list[float] | None = None
    ) -> tuple[str, float, float]:
        """Class name, its probability, and the MACs that this image took. Raises ValueError on a broken image.

        `thresholds` are those of an operating point; None: those of the chosen one.
        """
        with torch.inference_mode():
            logits, macs_B = self.net.run(self.pixels(image), thresholds)
        probability = F.softmax(logits[0], 0)
        best = int(probability.argmax())
        return self.classes[best], float(probability[best]), float(macs_B[0])


def load_exported(folder: Path) -> Model:
    """The model in a folder that `dynafront export` made. Raises ValueError when it is none."""
    description = read_description(folder)
    try:
        task = Task.from_dict(description["task"])
        net = rebuild(description["family"], description["config"], task, description["network"])
        check_file(folder, WEIGHTS, description)
        net.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise incomplete(folder, error) from None
    return Model(net.eval(), description)


def pixels_of(
    image: Stored, task: Task, preprocessing: Mapping[str, Any] = MappingProxyType({})
) -> Tensor:
    """(1, C, H, W) pixels in [0, 1] of an image, prepared as `preprocessing` of model.json says.

    Raises ValueError for a broken image.
    """
    return torch.from_numpy(prepared(image, task, preprocessing))
