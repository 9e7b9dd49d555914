"""Losses that make gates close, and the training objective of gated networks.

Per-gate: Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV, 2018. Per-batch,
const-quad and variable targets: Herrmann, Bowen and Zabih, "Deep networks with probabilistic gates", 2018.
Target-free: Ehteshami Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks",
KI, 2020. MAC-weighted quadratic, and bounds on single gates: Verelst and Tuytelaars, "Dynamic Convolutions: Exploiting
Spatial Sparsity for Faster Inference", CVPR, 2020. L0, with which batch-shaping ends: Ehteshami Bejnordi, Blankevoort
and Welling, "Batch-Shaping for Learning Conditional Channel Gated Networks", ICLR, 2020.
Differs: target-free is a mean over gates by default (the sum stays available), L0 always; const-quad compares the mean
activation, not a count, with the target; bounds are on open rates, not on costs.

Shapes: B samples, G gate units. m_G are mean open values over the batch, m their (weighted) mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from spaces.contract.space import BELOW_ONE, PART, SHARE, WEIGHT, choice, one_of, real

# of the blocks of Veit and Belongie's ResNet-50 and ResNet-101; None: the target, 1: no gate
PUBLISHED_TARGETS: dict[str, tuple[float | None, ...]] = {
    "aig50": (1.0, 1.0, 0.8, 1.0, *(None,) * 3, 1.0, *(None,) * 5, 1.0, 0.7, 1.0),
    "aig101": (*(1.0,) * 8, *(None,) * 25),
}


def per_gate(m_G: Tensor, t_G: Tensor | float, denominator: int | None = None) -> Tensor:
    """Mean over gates of (t_g - m_g)^2; `denominator` other than G counts forced-open gates in (AIG's code)."""
    squares = (t_G - m_G).square().sum()
    return squares / (denominator or m_G.numel())


def per_batch(m: Tensor, t: float) -> Tensor:
    """(t - m)^2 of the batch's mean activation: lets gates differ as long as their mean is on target."""
    return (t - m).square()


def const_quad(m: Tensor, t: float) -> Tensor:
    """(m - t)^2 above the target, nothing below."""
    return torch.relu(m - t).square()


def const_quad_per_gate(m_G: Tensor, t_G: Tensor | float) -> Tensor:
    """Mean over gates of (m_g - t_g)^2 where a gate is above its target."""
    return torch.relu(m_G - t_G).square().mean()


def target_free(m_G: Tensor, reduction: str = "mean") -> Tensor:
    """Mean (or sum) over gates of m_g^2: presses the busiest gates hardest, towards no particular rate."""
    squares_G = m_G.square()
    return squares_G.sum() if reduction == "sum" else squares_G.mean()


def bounds(m_L: Tensor, t_L: Tensor, tightness: float) -> Tensor:
    """Mean over gates of the squared distance to [tightness t, 1 - tightness (1 - t)]: t alone at 1, [0, 1] at 0."""
    above_L = torch.relu(m_L - (1 - tightness * (1 - t_L)))
    below_L = torch.relu(tightness * t_L - m_L)
    return (above_L.square() + below_L.square()).mean()


def l0(p_G: Tensor) -> Tensor:
    """The expected share of gates that are open."""
    return p_G.mean()


def mac_quad(fraction_B: Tensor, t: float) -> Tensor:
    """(mean executed fraction of the baseline's MACs - t)^2."""
    return (fraction_B.mean() - t).square()


def mac_hinge(fraction_B: Tensor, t: float) -> Tensor:
    """As mac_quad, above the target only."""
    return torch.relu(fraction_B.mean() - t).square()


def excess(fraction_B: Tensor, t: float) -> Tensor:
    """Mean executed fraction of the baseline's MACs - t; negative below the target."""
    return fraction_B.mean() - t


def fraction(fraction_B: Tensor) -> Tensor:
    """The mean executed fraction of the baseline's MACs."""
    return fraction_B.mean()


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss that closes gates: its function, what that is called with, and which dimensions belong to it.

    `takes` names the function's first argument: "gates" the mean open value of each gate unit (G,), "mean" their mean,
    weighted or not, "macs" each image's executed fraction of the baseline's MACs (B,), "probabilities" the mean
    probability of each unit to be open (G,), "nothing" where there is no loss. If `targeted`, its second is the target
    (of each unit for "gates"). `options` are dimensions that it takes as keywords.
    `weight` is the dimension that multiplies it, `channel_weight` the one that does so for channel gates, if another.
    With a `multiplier`, what multiplies it instead rises while the target is exceeded, as fast as `weight` says.
    `start` is the dimension that says before which fraction of the training it is left out.
    `drawn` says whether a study draws it unasked.
    """

    function: Callable[..., Tensor] | None
    takes: str
    targeted: bool = True
    weight: str = "loss_weight"
    channel_weight: str = ""
    multiplier: bool = False
    options: tuple[str, ...] = ()
    start: str = ""
    drawn: bool = True

    def weight_of(self, kind: str) -> str:
        """The dimension that multiplies the loss on gates of this kind, "layer" or "channel"."""
        return self.channel_weight if kind == "channel" and self.channel_weight else self.weight


# the order is that of the choices in stored studies: a new one goes behind those that are drawn
LOSSES = {
    "per_gate": Loss(function=per_gate, takes="gates"),
    "per_batch": Loss(function=per_batch, takes="mean"),
    "const_quad": Loss(function=const_quad, takes="mean"),
    "const_quad_per_gate": Loss(function=const_quad_per_gate, takes="gates"),
    "target_free": Loss(
        function=target_free,
        takes="gates",
        targeted=False,
        weight="lambda_layer",
        channel_weight="gamma_channel",
        options=("reduction",),
    ),
    "mac_quad": Loss(function=mac_quad, takes="macs"),
    "mac_hinge": Loss(function=mac_hinge, takes="macs"),
    "lagrange": Loss(function=excess, takes="macs", multiplier=True),
    "utility": Loss(function=fraction, takes="macs", targeted=False, weight="kappa"),
    "none": Loss(function=None, takes="nothing", targeted=False),
    "l0": Loss(
        function=l0,
        takes="probabilities",
        targeted=False,
        weight="l0_weight",
        start="l0_start",
        drawn=False,
    ),
}
DRAWN = tuple(name for name, loss in LOSSES.items() if loss.drawn)
TARGETED = tuple(name for name, loss in LOSSES.items() if loss.targeted)
EACH = tuple(name for name in TARGETED if LOSSES[name].takes == "gates")  # a target for each gate
_MEAN = tuple(name for name in TARGETED if LOSSES[name].takes == "mean")
# a target for each kind of gate
_RATES = tuple(name for name in TARGETED if LOSSES[name].takes in ("gates", "mean"))
_open_rate = partial(real, 0.1, 1.0, within=SHARE, default=0.6)


def _with(dimension: str) -> tuple[str, ...]:
    """The losses that a dimension belongs to."""
    return tuple(
        name
        for name, loss in LOSSES.items()
        if dimension in (loss.weight, loss.channel_weight, loss.start, *loss.options)
    )


@dataclass(frozen=True, kw_only=True)
class SparsityConfig:
    """Which loss closes gates, towards which rate, along which schedule."""

    loss: str = choice(
        *DRAWN, default="per_batch", accepts=one_of(*LOSSES),
        doc="pull each gate, or the batch's mean, to the target; press without one; target the MACs, by a penalty or a "
        "multiplier; or trade them for accuracy at a price; also l0, pressure that sets in late, as behind "
        "batch_shaping",
    )  # fmt: skip
    weighting: str = choice(
        "count",
        "mac",
        when={"loss": _MEAN},
        searched=False,
        doc="gates count alike, or by the MACs they guard",
    )
    target: float = _open_rate(
        when={"loss": TARGETED},
        doc="open rate of gates (mac losses: fraction of the baseline's MACs)",
    )
    target_channel: float = _open_rate(
        when={"loss": _RATES, "granularity": ("joint",)},
        doc="open rate of channel gates in a joint net",
    )
    target_vector: str = choice(
        "constant", "ramp_up", "ramp_down", when={"loss": EACH}, searched=False,
        doc="one target for all gates, or rising or falling with depth around the same mean",
    )  # fmt: skip
    loss_weight: float = real(
        0.3,
        30.0,
        within=WEIGHT,
        default=2.0,
        log=True,
        when={"loss": TARGETED},
        doc="of the loss beside the cross-entropy",
    )
    kappa: float = real(
        0.01, 10.0, within=WEIGHT, default=0.5, log=True, when={"loss": _with("kappa")},
        doc="price of the baseline's MACs in cross-entropy",
    )  # fmt: skip
    batch_shaping: float = real(
        0.0,
        2.0,
        within=WEIGHT,
        default=0.0,
        searched=False,
        doc="weight of a loss that keeps gates conditional; 0 has none",
    )
    shaping_prior: float = real(
        0.2, 0.9, default=0.6, searched=False, doc="mean of the Beta that it shapes gates to"
    )
    shaping_end: float = real(
        0.1,
        1.0,
        within=PART,
        default=0.5,
        searched=False,
        doc="fraction of the training in which it falls to 0",
    )
    l0_weight: float = real(
        0.01, 10.0, within=WEIGHT, default=0.5, log=True, when={"loss": _with("l0_weight")},
        doc="price of all gates open in cross-entropy",
    )  # fmt: skip
    l0_start: float = real(
        0.0,
        0.9,
        within=SHARE,
        default=0.5,
        when={"loss": _with("l0_start")},
        searched=False,
        doc="fraction of the training before it",
    )
    lambda_layer: float = real(
        0.003, 0.3, within=WEIGHT, default=0.05, log=True,
        when={"loss": _with("lambda_layer"), "granularity": ("layer", "joint")},
        doc="pressure on layer gates",
    )  # fmt: skip
    gamma_channel: float = real(
        0.003, 0.5, within=WEIGHT, default=0.1, log=True,
        when={"loss": _with("gamma_channel"), "granularity": ("channel", "joint")},
        doc="pressure on channel gates",
    )  # fmt: skip
    reduction: str = choice(
        "mean",
        "sum",
        when={"loss": _with("reduction")},
        searched=False,
        doc="over gates; the published form is the sum",
    )
    channel_count: str = choice(
        "effective", "raw", when={"granularity": ("joint",)}, searched=False,
        doc="a channel gate in a skipped block counts as closed, or as decided",
    )  # fmt: skip
    target_schedule: str = choice(
        "constant", "step", "mean", "ema", when={"loss": TARGETED},
        accepts=one_of("constant", "step", "mean", "ema", "bounds"),
        doc="fixed; annealed down in steps; or following the batches' mean or moving average; also bounds, fixed, with "
        "each gate held near it at first",
    )  # fmt: skip
    anneal_from: float = real(
        0.5,
        1.0,
        within=PART,
        default=1.0,
        when={"target_schedule": ("step",)},
        searched=False,
        doc="first target",
    )
    anneal_step: float = real(
        0.02,
        0.2,
        within=SHARE,
        default=0.1,
        when={"target_schedule": ("step",)},
        doc="how far the target falls at a step",
    )
    anneal_every: float = real(
        0.01,
        0.2,
        default=0.05,
        when={"target_schedule": ("step",)},
        doc="fraction of the training a step lasts",
    )
    target_start: float = real(
        0.4,
        0.95,
        within=PART,
        default=0.8,
        when={"target_schedule": ("mean", "ema")},
        doc="target at every epoch's start",
    )
    ema_rho: float = real(
        0.5,
        0.999,
        within=BELOW_ONE,
        default=0.9,
        when={"target_schedule": ("ema",)},
        doc="memory of the moving average",
    )
    target_window: float = real(
        0.05, 1.0, default=1.0, when={"target_schedule": ("mean",)}, searched=False,
        doc="fraction of an epoch that the mean looks back",
    )  # fmt: skip


# what a forward pass reads of a network with published targets shows in its gates
SPARSITY_NUMBERS = frozenset(f.name for f in fields(SparsityConfig))


def target_vector(shape: str, target: float, gates: int) -> list[float]:
    """One target a gate: constant, linear in depth as far as [0, 1] allows (half of it), or as published (aig*).

    The mean of all but the published ones is `target`; those are of the blocks that have a gate there, and need that
    many gates.
    """
    if published := PUBLISHED_TARGETS.get(shape):
        own = [target if one is None else one for one in published if one != 1]
        assert len(own) == gates
        return own
    if shape == "constant" or gates == 1:
        return [target] * gates
    reach = min(target, 1 - target) / 2
    sign = 1 if shape == "ramp_up" else -1
    return [target + sign * reach * (2 * g / (gates - 1) - 1) for g in range(gates)]
