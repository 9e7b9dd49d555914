"""Family `shuffled_vit`: transformers trained so that their layers can run in any order, or be left out.

Freiberger, Kun, Løvlie and Risi, "LayerShuffle: Enhancing Robustness in Vision Transformers by Randomizing Layer
Execution Order", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

from spaces.contract.space import BELOW_ONE, choice, real
from spaces.transformers.routed_vit import RoutedViTConfig, routed_family


@dataclass(frozen=True, kw_only=True)
class ShuffledViTConfig(RoutedViTConfig):
    """A shuffled transformer; gates (without history) and exits by place can be added."""

    order_train: str = choice(
        "shuffle", "window", "identity", default="shuffle",
        doc="a new order each batch; one in which no layer moves far; as built (to compare, or for LayerDrop alone)",
    )  # fmt: skip
    layerdrop: float = real(
        0.0, 0.5, within=BELOW_ONE, default=0.0, doc="share of layers left out, drawn each batch"
    )
    aggregator: str = "none"
    dt_history: str = "none"


FAMILY = routed_family(
    name="shuffled_vit",
    doc="transformers whose layers can run in any order or be left out",
    config=ShuffledViTConfig,
    traits=("oracle", "order_train", "exits", "loss", "target"),
)
