"""Family `skip_vit`: transformers whose oracles skip layers image by image, over plain or mixed inputs.

Mersha, "Dynamic Transformer Networks", Dynamic Neural Networks workshop at ICML, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

from spaces.contract.space import choice, one_of
from spaces.transformers.routed_vit import RoutedViTConfig, routed_family


@dataclass(frozen=True, kw_only=True)
class SkipViTConfig(RoutedViTConfig):
    """A skipping transformer; with an aggregator, skipped layers hand on the mixture that they got."""

    oracle: str = choice(
        "dt", "cls", "independent", default="dt", accepts=one_of("dt", "cls", "independent", "shared"),
        doc="class token and history of skips; class token and a hidden layer; a learned rate; also shared: one oracle "
        "for all layers",
    )  # fmt: skip
    order_train: str = "identity"


FAMILY = routed_family(
    name="skip_vit",
    doc="transformers that skip layers, image by image",
    config=SkipViTConfig,
    traits=("aggregator", "oracle", "exits", "loss", "target"),
)
