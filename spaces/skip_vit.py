"""Family `skip_vit`: transformers whose oracles skip layers image by image, over plain or mixed inputs.

Mersha, "Dynamic Transformer Networks", Dynamic Neural Networks workshop at ICML, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

from spaces.family import Family
from spaces.recipe import TransformerRecipe
from spaces.routed_vit import RoutedViT, RoutedViTConfig
from spaces.space import choice
from spaces.vit import PLAIN, SIZE_WORDS


@dataclass(frozen=True, kw_only=True)
class SkipViTConfig(RoutedViTConfig):
    """A skipping transformer; with an aggregator, skipped layers hand on the mixture that they got."""

    oracle: str = choice(
        "dt", "cls", "independent", default="dt",
        doc="class token and history of skips; class token and a hidden layer; a learned rate",
    )  # fmt: skip
    order_train: str = "identity"


FAMILY = Family(
    name="skip_vit",
    doc="transformers that skip layers, image by image",
    config=SkipViTConfig,
    recipe=TransformerRecipe,
    build=RoutedViT,
    size_dimensions=("layers", "dim"),
    ladder={"layers": (2, 3, 4)},
    plain_dimensions=PLAIN,
    size_words=SIZE_WORDS,
    traits=("aggregator", "oracle", "exits", "loss", "target"),
)
