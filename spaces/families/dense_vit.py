"""Family `dense_vit`: transformers in which the image decides how earlier layers are mixed into each layer's input.

Mersha, "Dynamic Transformer Networks", Dynamic Neural Networks workshop at ICML, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

from spaces.contract.space import choice
from spaces.transformers.routed_vit import RoutedViTConfig, routed_family


@dataclass(frozen=True, kw_only=True)
class DenseViTConfig(RoutedViTConfig):
    """A dense transformer; layers keep their order and none is skipped, but exits may answer early."""

    aggregator: str = choice(
        "wdc",
        "wsdc",
        default="wsdc",
        doc="earlier activations weighted by the image; with dropout on the weights",
    )
    oracle: str = "none"
    order_train: str = "identity"


FAMILY = routed_family(
    name="dense_vit",
    doc="transformers whose layers read a mixture of all earlier ones, weighted by the image",
    config=DenseViTConfig,
    traits=("aggregator", "exits"),
)
