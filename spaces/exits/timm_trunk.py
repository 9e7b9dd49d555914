"""A timm model as a trunk that may be frozen, or end behind a place.

Shapes: B images, C channels, H x W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from spaces.backbones.published_pixels import PublishedPixels
from spaces.backbones.timm_config import TimmModelConfig
from spaces.backbones.timm_models import own_classifier, pixel_statistics
from spaces.backbones.timm_state import classifiers
from spaces.backbones.timm_trunk import cut_behind, steps_to, tensors_of_steps
from spaces.backbones.timm_units import Layout, Units
from spaces.contract.compute import linear_macs
from spaces.contract.exit_places import Place
from spaces.exits.frozen_trunk import CLASSIFIER, FrozenTrunkNet, Read


class TimmTrunk(FrozenTrunkNet):
    """The model is `model`, taken apart into `parts`; `cut` are its modules that became empty, for the network ends
    before them.
    """

    model: nn.Module
    parts: Units
    pixels: PublishedPixels | None
    cut: tuple[str, ...] = ()

    def vector(self, u: Tensor) -> Tensor:
        if self.trunk_config.truncated is not None:
            return self.parts.features.maps(u).mean((2, 3))
        return self.model.forward_head(u, pre_logits=True)  # type: ignore[operator]

    def classifier(self) -> nn.Linear:
        if self.trunk_config.truncated is not None:
            return self.stage_head
        return own_classifier(self.model, self._model_config.backbone)

    def trunk(self) -> list[nn.Module]:
        return [self.model]

    def trunk_identity(self) -> str:
        own = self._model_config
        return f"timm {own.backbone} {own.stem} {self.pixels is not None}"

    def place_module(self, place: Place) -> nn.Module:
        return self.get_submodule(self.parts.units[place.unit].block.target)

    def as_maps(self, place: Place, u: Tensor) -> Tensor:
        return self.parts.units[place.unit].outputs.maps(u)

    def pooled(self, unit: int, u: Tensor) -> Tensor:
        return self.parts.units[unit].outputs.maps(u).mean((2, 3))

    def trunk_names(self, read: Read) -> list[str]:
        names = [name for name in self.state_dict() if name.startswith("model.")]
        if read.name == CLASSIFIER:
            own = tuple(f"model.{name}." for name in classifiers(self.model))
            return [name for name in names if not name.startswith(own)]
        return tensors_of_steps(steps_to(self.parts.units[: read.place.unit + 1]), names)

    def unit_macs(self) -> list[int]:
        units = [unit.before_macs + unit.block_macs for unit in self.parts.units]
        return [*units, self.parts.tail_macs]

    def published_pixels(self) -> PublishedPixels:
        """What brings pixels to the statistics of the model's published weights."""
        return PublishedPixels(self.task, *self._pixel_statistics())

    def _pixel_statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        config: dict[str, Any] = self.model.default_cfg  # type: ignore[assignment]
        return config["mean"], config["std"]

    def check_pixels(self, weights: str) -> None:
        """Raise ValueError where the published weights of this name expect other pixels than the model is given.

        A network is built anew by its config alone, so that has to name the weights.
        """
        there, here = pixel_statistics(weights), self._pixel_statistics()
        if self.pixels is None or all(map(np.allclose, there, here)):
            return
        (mean, std), (own_mean, own_std) = (map(list, one) for one in (there, here))
        raise ValueError(
            f"backbone: {self._model_config.backbone} is given pixels at mean {own_mean} and deviation {own_std}, and "
            f"init_from names weights for {mean} and {std}: write `backbone: {weights}`"
        )

    def places_of_model(self) -> list[Place]:
        """Where exits may stand: the ends of its stages."""
        outputs = {index: self.parts.units[index].outputs for index in self.parts.stage_ends()}
        return [Place(index, o.channels, o.height, o.width) for index, o in outputs.items()]

    def truncate(self, number: int) -> None:
        """End behind the place of this number, with a classifier of its own there."""
        place = self.exit_places[number]
        short, self.cut = cut_behind(self, self.parts, place.unit)
        self.exit_places = self.exit_places[: number + 1]
        self.stage_head = nn.Linear(place.channels, self.task.classes)
        self.parts = replace(short, head_macs=linear_macs(self.stage_head))

    @property
    def _model_config(self) -> TimmModelConfig:
        assert isinstance(self.trunk_config, TimmModelConfig)
        return self.trunk_config


class MapsOf(nn.Module):
    """An exit's head or gate that is given what it reads as maps (B, C, H, W)."""

    def __init__(self, layout: Layout, inner: nn.Module) -> None:
        super().__init__()
        self.layout, self.inner, self.own_macs = layout, inner, inner.own_macs

    def forward(self, u: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.inner(self.layout.maps(u))
