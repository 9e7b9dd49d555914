"""Gates of a residual block: their dimensions, their heads, their cost.

Data-dependent gates follow Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV, 2018
(global average pool, a small hidden layer, a logit); the shared trunk with a layer head and channel heads follows
Ehteshami Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks", KI, 2020;
data-independent gates follow Herrmann, Bowen and Zabih, "Deep networks with probabilistic gates", 2018. Gates with
fixed rates, which drop blocks in training: Huang, Sun, Liu, Sedra and Weinberger, "Deep Networks with Stochastic
Depth", ECCV, 2016. Differs: those drop blocks image by image, not batch by batch; two-logit heads are reduced to their
difference, and the hidden layer's batch norm is a plain BatchNorm1d.

Shapes: B samples, C channels, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd, log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.policies import REINFORCE
from spaces.contract.space import PART, SHARE, WARMTH, choice, flag, one_of, real
from spaces.gates.feedforward_gates import FEEDFORWARD, FeedForwardGate
from spaces.gates.shared_gates import PolicyNet, RecurrentGate

_CHANNEL = ("channel", "joint")
_RELAXED = ("gumbel_st", "soft_then_hard")
SHARED = ("lstm", "policy_net")
SURVIVAL = "survival"
HEEDLESS = ("independent", SURVIVAL)  # kinds of gates that read no image
# dimensions that gates of layers of transformers have too
relaxed_temperature = partial(
    real,
    0.3,
    5.0,
    within=WARMTH,
    default=1.0,
    log=True,
    when={"estimator": _RELAXED},
    searched=False,
    doc="of the relaxed sample",
)
relaxed_schedule = partial(
    choice, "constant", "exponential", when={"estimator": _RELAXED}, searched=False,
    doc="exponential: falls from the temperature to 0.1 over the training",
)  # fmt: skip
noise_ends = partial(
    real, 0.0, 0.4, within=SHARE, default=0.0, when={"estimator": ("gumbel_st",)}, searched=False,
    doc="last fraction of the training without gate noise",
)  # fmt: skip
# dimensions of `GateConfig` that the objective and the first weights alone read
GATE_NUMBERS = frozenset(
    {"bias_init", "temperature", "temperature_schedule", "noise_off", "open_warmup"}
)
_filters_together = partial(choice, 1, 2, 4, 8, 16, default=4)


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What gates guard and how they decide, for families of residual blocks."""

    granularity: str = choice(
        "layer", "channel", "joint", doc="gates skip whole blocks, filters of a block, or both"
    )
    channel_where: str = choice(
        "inner", "outer", "both", when={"granularity": _CHANNEL},
        doc="filters inside the block, those of its last convolution, or both",
    )  # fmt: skip
    channel_group: int = _filters_together(
        when={"granularity": _CHANNEL, "channel_where": ("inner", "both")},
        doc="inner filters that one gate opens together",
    )
    outer_groups: int = _filters_together(
        when={"granularity": _CHANNEL, "channel_where": ("outer", "both")},
        doc="equal groups that the block's output filters are split into",
    )
    gate: str = choice(
        "dependent", "independent", accepts=one_of("dependent", "independent", *SHARED, SURVIVAL),
        doc="decide by the image, or by a learned rate; also lstm (one for all gates, along the blocks), policy_net "
        "(one small network that sees the image once) and survival (stochastic depth: fixed rates, falling with depth)",
    )  # fmt: skip
    survival_last: float = real(
        0.3, 0.9, default=0.5, within=PART, when={"gate": (SURVIVAL,)}, searched=False, later=True,
        doc="share of the images that run the last block in training",
    )  # fmt: skip
    shared_trunk: bool = flag(
        default=True, when={"granularity": ("joint",), "gate": ("dependent",)}, searched=False,
        doc="layer and channel heads share the gate's hidden layer",
    )  # fmt: skip
    gate_hidden: int = choice(
        8, 16, 32, 64, default=16, when={"gate": ("dependent", *SHARED)}, searched=False,
        doc="units of the hidden layer, of the lstm, filters of the policy network's first stage",
    )  # fmt: skip
    gate_bn: bool = flag(
        default=True,
        when={"gate": ("dependent",)},
        searched=False,
        doc="batch norm in the hidden layer",
    )
    gate_source: str = choice(
        "block_input", "stem", when={"gate": ("dependent", "lstm")}, searched=False,
        doc="features that gates read; with stem all decisions are known before the first block",
    )  # fmt: skip
    two_logit: bool = flag(
        default=False,
        searched=False,
        doc="one logit for open and one for closed instead of their difference",
    )
    bias_init: float = real(
        0.0, 4.0, default=1.9, searched=False, doc="initial logit; 1.9 opens 87 % of the gates"
    )
    estimator: str = choice(
        "gumbel_st", "st", "soft_then_hard", searched=False,
        accepts=one_of("gumbel_st", "st", "soft_then_hard", REINFORCE),
        doc="hard noisy decisions, hard decisions, or soft ones in training; also reinforce, hard draws that are "
        "rewarded",
    )  # fmt: skip
    temperature: float = relaxed_temperature()
    temperature_schedule: str = relaxed_schedule()
    noise_off: float = noise_ends()
    forced_open: str = choice(
        "none", "first", "first_last", "downsample", searched=False,
        doc="blocks that have no layer gate and no channel gate",
    )  # fmt: skip
    open_warmup: float = real(
        0.0,
        0.3,
        within=SHARE,
        default=0.0,
        searched=False,
        doc="first fraction of the training with every gate open",
    )

    @property
    def gates_layers(self) -> bool:
        return self.granularity in ("layer", "joint")

    def inner_units(self, filters: int) -> int:
        """Gate units on a convolution inside a block; the group is the largest that divides both."""
        if self.granularity == "layer" or self.channel_where == "outer":
            return 0
        return filters // gcd(filters, self.channel_group)

    def outer_units(self, filters: int) -> int:
        """Gate units on a block's last convolution; as many as divide the filters evenly."""
        if self.granularity == "layer" or self.channel_where == "inner":
            return 0
        return gcd(filters, self.outer_groups)


class GateHeads(nn.Module):
    """The gates of one block: a layer logit and logits for its channel groups, as far as it has them.

    `units` maps "layer" and kinds of channel gates to the number of logits; absent kinds have no gate. `depth` is the
    place of the block among those with gates, from above 0 to 1 at the last one. `size` is the height and width of the
    maps, which feed-forward gates need to know.
    """

    def __init__(
        self,
        config: GateConfig,
        channels: int,
        units: dict[str, int],
        depth: float = 1.0,
        size: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        self.units = dict(units)
        self.kind = config.gate
        self.dependent = config.gate not in HEEDLESS
        self.logits_a_unit = 2 if config.two_logit else 1
        both = "layer" in units and len(units) > 1
        self.separate = config.gate == "dependent" and both and not config.shared_trunk
        self.hidden = config.gate_hidden if self.dependent else 0
        self.channels = channels
        if config.gate == "dependent":
            self.trunk = _trunk(channels, config)
            if self.separate:
                self.channel_trunk = _trunk(channels, config)
        elif config.gate == "lstm":
            self.trunk = nn.Sequential(nn.Linear(channels, self.hidden))
        elif config.gate == "policy_net":
            self.hidden = PolicyNet.WIDEST * config.gate_hidden
        elif config.gate in FEEDFORWARD:
            self.hidden = channels
            self.trunk = nn.Sequential(FeedForwardGate(config.gate, channels, size))
        self.heads = nn.ModuleDict(
            {kind: self._head(n, _first_logit(config, depth)) for kind, n in units.items()}
        )

    def features(self, x: Tensor, kind: str = "layer") -> Tensor | None:
        """(B, C, H, W) → (B, hidden) what this block's gates of the kind make of it; None for those that read nothing.

        Heads read that, or what a network that all gates share makes of it, see spaces.gates.shared_gates.
        """
        if self.kind in FEEDFORWARD:
            found: Tensor = self.trunk(x)
            return found
        if self.kind not in ("dependent", "lstm"):
            return None
        return self.get_submodule(self.trunk_of(kind))(x.mean((2, 3)))

    def trunk_of(self, kind: str) -> str:
        """The name of the trunk that this kind reads; kinds with the same trunk have the same features."""
        return "channel_trunk" if self.separate and kind != "layer" else "trunk"

    def logit(
        self, kind: str, features: Tensor | None, only: Sequence[int] | None = None
    ) -> Tensor:
        """Logits (B, U) of the gate of this kind; (1, U) when data-independent. At least float32.

        With `only`, those of these units alone are computed; the others read 0.
        """
        if only is not None and len(only) < self.units[kind]:
            return self._logit_of(kind, features, only)
        head = self.heads[kind]
        assert isinstance(head.bias, Tensor)
        return self._reduced(head.bias[None] if features is None else head(features))

    def _logit_of(self, kind: str, features: Tensor | None, only: Sequence[int]) -> Tensor:
        head, units = self.heads[kind], self.units[kind]
        assert isinstance(head.bias, Tensor)
        rows = torch.tensor(only, device=head.bias.device)
        outputs = torch.cat([rows + half * units for half in range(self.logits_a_unit)])
        some = head.bias[outputs][None]
        if features is not None:
            assert isinstance(head.weight, Tensor)
            some = F.linear(features, head.weight[outputs], some[0])
        some = self._reduced(some)
        return some.new_zeros(some.shape[0], units).index_copy(1, rows, some)

    def _reduced(self, out: Tensor) -> Tensor:
        """One logit a unit, at least float32, from what a head returned."""
        if out.dtype in (torch.float16, torch.bfloat16):
            out = out.float()
        if self.logits_a_unit == 1:
            return out
        off_BU, on_BU = out.unflatten(1, (2, -1)).unbind(1)
        return on_BU - off_BU

    def trunk_macs(self) -> int:
        """MACs that one evaluation pays whatever the number of logits: of the hidden layer, and of an LSTM's step."""
        if self.kind == "policy_net":
            return 0
        if self.kind in FEEDFORWARD:
            (gate,) = self.trunk
            assert isinstance(gate, FeedForwardGate)
            return gate.own_macs
        return self.channels * self.hidden + (
            RecurrentGate.step_macs(self.hidden) if self.kind == "lstm" else 0
        )

    def unit_macs(self) -> int:
        """MACs of one gate unit's logit."""
        return self.hidden * self.logits_a_unit

    def _bias(self, outputs: int) -> _Bias:
        return _Bias(outputs, learned=self.kind != SURVIVAL)

    def _head(self, units: int, bias_init: float) -> nn.Module:
        outputs = units * self.logits_a_unit
        head = nn.Linear(self.hidden, outputs) if self.dependent else self._bias(outputs)
        with torch.no_grad():
            if isinstance(head, nn.Linear):
                nn.init.normal_(head.weight, std=0.001)
            if self.logits_a_unit == 2:
                head.bias[:units] = 0.1
                head.bias[units:] = 0.1 + bias_init
            else:
                head.bias.fill_(bias_init)
        return head


class _Bias(nn.Module):
    """A vector of logits that no image changes, learned or as it is built."""

    def __init__(self, outputs: int, *, learned: bool) -> None:
        super().__init__()
        if learned:
            self.bias = nn.Parameter(torch.zeros(outputs))
        else:
            self.register_buffer("bias", torch.zeros(outputs))


def survival(last: float, depth: float) -> float:
    """Share of images that run a block: falls linearly with its depth in (0, 1], from 1 to `last`."""
    return 1 - depth * (1 - last)


def _first_logit(config: GateConfig, depth: float) -> float:
    if config.gate != SURVIVAL:
        return config.bias_init
    open_rate = min(survival(config.survival_last, depth), 1 - 1e-6)
    return log(open_rate / (1 - open_rate))


def _trunk(channels: int, config: GateConfig) -> nn.Sequential:
    norm = [nn.BatchNorm1d(config.gate_hidden)] if config.gate_bn else []
    return nn.Sequential(nn.Linear(channels, config.gate_hidden), *norm, nn.ReLU())
