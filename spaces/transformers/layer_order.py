"""Training that makes transformer layers change places, and what goes with it.

LayerShuffle and its variants: Freiberger, Kun, Løvlie and Risi, "LayerShuffle: Enhancing Robustness in Vision
Transformers by Randomizing Layer Execution Order", 2024. LayerDrop: Fan, Grave and Joulin, "Reducing Transformer Depth
on Demand with Structured Dropout", ICLR, 2020. Stochastic depth: Huang, Sun, Liu, Sedra and Weinberger, "Deep Networks
with Stochastic Depth", ECCV, 2016. Differs: displacements can be limited to a window, and shuffling can be partial.

Shapes: B images, N tokens, D width, L layers, F width of a position's embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.net import DynamicNet, Objective, Output, Plan, WrappingObjective
from spaces.contract.noise import logistic_noise, permutation
from spaces.contract.policies import Policy
from spaces.contract.space import BELOW_ONE, PART, WEIGHT, choice, flag, real, whole
from spaces.contract.truth import Labels

_MOVED = ("shuffle", "window")


@dataclass(frozen=True, kw_only=True)
class OrderConfig:
    """In which order layers run in training, which are left out, and how they know their place."""

    order_train: str = choice(
        "identity", "shuffle", "window", searched=False,
        doc="as built; a new order each batch; one in which no layer moves far",
    )  # fmt: skip
    window: int = whole(
        1,
        8,
        default=2,
        when={"order_train": ("window",)},
        doc="places that a layer may be away from its own",
    )
    shuffle_prob: float = real(
        0.0, 1.0, default=1.0, when={"order_train": _MOVED}, doc="share of batches out of order"
    )
    ls_variant: str = choice(
        "plain", "position", "predict", when={"order_train": _MOVED},
        doc="layers are told their place, or learn to tell it",
    )  # fmt: skip
    pos_dim: int = choice(
        8,
        16,
        32,
        64,
        default=32,
        when={"ls_variant": ("position",)},
        searched=False,
        doc="of a place's embedding",
    )
    pos_shared: bool = flag(
        default=True, when={"ls_variant": ("position",)}, searched=False,
        doc="one table of places for the network (as in the code), or one a layer (as in the paper)",
    )  # fmt: skip
    pos_dropout: float = real(
        0.0, 0.5, within=BELOW_ONE, default=0.0, when={"ls_variant": ("position",)}, searched=False, later=True,
        doc="of what layers are told, in training",
    )  # fmt: skip
    pred_weight: float = real(
        0.05, 12.0, within=WEIGHT, default=1.0, log=True, when={"ls_variant": ("predict",)}, searched=False,
        doc="of the loss on told places, a mean over layers (the paper's sum: the number of layers)",
    )  # fmt: skip
    layerdrop: float = real(
        0.0,
        0.5,
        within=BELOW_ONE,
        default=0.0,
        searched=False,
        doc="share of layers left out, drawn each batch",
    )
    stochastic_depth: float = real(
        0.3,
        1.0,
        within=PART,
        default=1.0,
        searched=False,
        doc="share of images that run the last layer in training; falls with depth",
    )

    @property
    def moves(self) -> bool:
        return self.order_train != "identity"


class Places(nn.Module):
    """Tells tokens the place at which their layer runs: u + dropout(GELU(linear(norm(u, embedding of the place))))."""

    def __init__(self, dim: int, width: int, table: nn.Embedding, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(dim + width)
        self.fc = nn.Linear(dim + width, dim)
        self.table = table

    def forward(self, u_BND: Tensor, place: int) -> Tensor:
        one = self.table.weight[place].expand(*u_BND.shape[:2], -1).to(u_BND.dtype)
        told_BND = F.gelu(self.fc(self.norm(torch.cat([u_BND, one], -1))))
        return u_BND + (
            F.dropout(told_BND, self.dropout, self.training) if self.dropout else told_BND
        )

    def macs(self, tokens: int) -> int:
        return tokens * self.fc.in_features * self.fc.out_features


class PlaceHead(nn.Module):
    """A layer's guess of the place it ran at, from the mean of its output tokens; for training only."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(dim), nn.Linear(dim, layers)

    def forward(self, u_BND: Tensor) -> Tensor:
        return self.fc(self.norm(u_BND.mean(1)))


def training_order(
    config: OrderConfig, layers: int, seed: int, step: int
) -> tuple[int, ...] | None:
    """The layers to run at this step, in order; None for all of them as built. The same for equal seed and step."""
    uniform = torch.sigmoid(logistic_noise(seed, step, torch.tensor([-2]), 2 * layers + 1)[0])
    order = tuple(range(layers))
    if config.moves and uniform[-1] < config.shuffle_prob:
        if config.order_train == "shuffle":
            order = permutation(seed, step, layers)
        else:  # sorting i + u (window + 1) moves nothing further than the window
            keys = torch.arange(layers) + uniform[:layers] * (config.window + 1)
            order = tuple(keys.argsort(stable=True).tolist())
    if config.layerdrop:
        order = tuple(i for i in order if uniform[layers + i] >= config.layerdrop)
    return None if order == tuple(range(layers)) else order


def survival_rates(last: float, layers: int) -> tuple[float, ...]:
    """Share of images that run each layer under stochastic depth: falls linearly to `last` at the last one."""
    return tuple(1 - (depth + 1) / layers * (1 - last) for depth in range(layers))


class OrderObjective(WrappingObjective):
    """Draws orders, left-out layers and survivors while training; adds the loss on told places."""

    def __init__(
        self, net: DynamicNet, plan: Plan, config: OrderConfig, layers: int, inner: Objective
    ) -> None:
        super().__init__(net, plan, inner)
        self.config, self.layers = config, layers
        self._told_right: list[
            Tensor
        ] = []  # of each pass of this epoch, the share of right guesses

    def start_epoch(self, epoch: int) -> None:
        super().start_epoch(epoch)
        self._told_right = []

    def report(self) -> dict[str, float]:
        """How often layers told their place rightly in this epoch's training."""
        if not self._told_right:
            return super().report()
        return super().report() | {"place_accuracy": float(torch.stack(self._told_right).mean())}

    def policy(self, step: int, ids_B: Tensor) -> Policy:
        policy, survival = self.inner.policy(step, ids_B), None
        if self.config.stochastic_depth < 1:
            uniform_BL = torch.sigmoid(logistic_noise(self.plan.seed + 1, step, ids_B, self.layers))
            rates_L = torch.tensor(
                survival_rates(self.config.stochastic_depth, self.layers), device=ids_B.device
            )
            survival = (uniform_BL < rates_L).float()
        order = training_order(self.config, self.layers, self.plan.seed, step)
        return replace(policy, order=order, survival=survival)

    def losses(self, output: Output, labels: Labels) -> dict[str, Tensor]:
        terms = self.inner.losses(output, labels)
        told = output.extra.get("places")
        if told:
            each = [
                F.cross_entropy(
                    logits.float(), torch.full((len(logits),), place, device=logits.device)
                )
                for place, logits in enumerate(told)
            ]
            terms["places"] = self.config.pred_weight * torch.stack(each).mean()
            right = [(logits.argmax(1) == place).float() for place, logits in enumerate(told)]
            self._told_right.append(torch.cat(right).mean())
        return terms
