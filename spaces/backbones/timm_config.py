"""Which timm model a network is made of, as dimensions."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.backbones.published_pixels import NORMALIZATIONS
from spaces.backbones.timm_models import SMALL, known
from spaces.contract.space import choice, flag


@dataclass(frozen=True, kw_only=True)
class TimmModelConfig:
    """Which model, and what is made dynamic about it."""

    backbone: str = choice(
        *SMALL,
        default="resnet18",
        accepts=known,
        searched=False,
        doc="these, or any other timm model by its name",
    )
    pretrained: bool = flag(
        default=False, searched=False, doc="start from published weights, which are downloaded"
    )
    stem: str = choice(
        "keep",
        "small",
        default="keep",
        searched=False,
        doc="small: no strides, no pooling, for images up to 64 px",
    )
    dynamics: str = choice(
        "gates",
        "exits",
        "both",
        default="gates",
        searched=False,
        doc="skip residual blocks, leave early, or both",
    )
    normalization: str = choice(
        *NORMALIZATIONS, searched=False, later=True,
        doc="pixels at the mean and deviation of the study's images, or those of the published weights; auto: "
        "published where the trunk is frozen",
    )  # fmt: skip
