"""Transformer layers whose input is a learned mixture of all earlier activations (dynamic dense transformers).

Weighted dense connections and dropout on them follow Mersha, "Dynamic Transformer Networks", Dynamic Neural Networks
workshop at ICML, 2022: the weights of a layer are a softmax of a linear oracle on the class token that the layer before
put out. Differs: when dropout takes all weights of a layer, the largest stays; weights may start near the plain
network.

Shapes: B images, N tokens, D width, j earlier activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.space import BELOW_ONE, choice, flag, real

_MIXED = ("wdc", "wsdc")


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """How a layer's input is made from earlier activations."""

    aggregator: str = choice(
        "none", "wdc", "wsdc", searched=False,
        doc="the layer before; all earlier ones weighted by the image; the same with dropout on the weights",
    )  # fmt: skip
    agg_init: str = choice(
        "uniform", "last_biased", default="last_biased", when={"aggregator": _MIXED},
        doc="weights at first: all alike, or nearly the baseline",
    )  # fmt: skip
    w_dropout_max: float = real(
        0.0,
        0.5,
        within=BELOW_ONE,
        default=0.25,
        when={"aggregator": ("wsdc",)},
        doc="dropout of dense weights at the last layer",
    )
    w_dropout_curve: str = choice(
        "quadratic", "linear", "const", when={"aggregator": ("wsdc",)},
        doc="how it grows with depth from 0",
    )  # fmt: skip
    w_renorm: bool = flag(
        default=False,
        when={"aggregator": ("wsdc",)},
        doc="let the weights that stay sum to 1 (published: they do not)",
    )
    detach_cls: bool = flag(
        default=False,
        searched=False,
        doc="oracles learn without changing the class token that they read",
    )


def dropout_rates(curve: str, maximum: float, layers: int) -> list[float]:
    """Dropout of the dense weights at layer 1 to `layers`: from 0 to the maximum, or constant (but 0 at layer 1)."""
    depth = [j / max(1, layers - 1) for j in range(layers)]
    if curve == "const":
        return [0.0, *[maximum] * (layers - 1)]
    return [maximum * (d**2 if curve == "quadratic" else d) for d in depth]


def dropped(w_BJ: Tensor, rate: float, renormalize: bool) -> Tensor:
    """Weights with inverted dropout, a draw a sample; the largest stays where all would go."""
    if not rate:
        return w_BJ
    keep_BJ = torch.rand_like(w_BJ) >= rate
    largest_BJ = F.one_hot(w_BJ.argmax(1), w_BJ.shape[1]).bool()
    keep_BJ = torch.where(keep_BJ.any(1, keepdim=True), keep_BJ, largest_BJ)
    kept_BJ = w_BJ * keep_BJ
    return kept_BJ / kept_BJ.sum(1, keepdim=True) if renormalize else kept_BJ / (1 - rate)


class Mixing(nn.Module):
    """The weights of one layer over the `sources` activations before it, and their mixture."""

    def __init__(self, config: MixingConfig, dim: int, sources: int, rate: float) -> None:
        super().__init__()
        self.rate = rate if config.aggregator == "wsdc" else 0.0
        self.renormalize, self.detach = config.w_renorm, config.detach_cls
        self.oracle = nn.Linear(dim, sources)
        nn.init.normal_(self.oracle.weight, std=0.001)
        nn.init.zeros_(self.oracle.bias)
        if config.agg_init == "last_biased":
            with torch.no_grad():
                self.oracle.bias[-1] = 3.0

    def forward(self, activations: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(the mixture (B, N, D), the weights (B, j)) of j activations (B, N, D)."""
        cls_BD = activations[-1][:, 0]
        w_BJ = self.oracle(cls_BD.detach() if self.detach else cls_BD).float().softmax(1)
        if self.training:
            w_BJ = dropped(w_BJ, self.rate, self.renormalize)
        stacked = torch.stack(list(activations), 1).flatten(2)
        # the residual stream keeps its precision
        with torch.autocast(stacked.device.type, enabled=False):
            mixed = torch.bmm(w_BJ[:, None].to(stacked.dtype), stacked)[:, 0]
        return mixed.view_as(activations[-1]), w_BJ

    def macs(self, tokens: int) -> int:
        """MACs of oracle and mixture for one image."""
        sources, dim = self.oracle.out_features, self.oracle.in_features
        return sources * dim + sources * tokens * dim
