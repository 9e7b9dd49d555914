"""Dimensions of exits: which a network has, what decides them, how they are taught."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.contract.exit_places import numbered
from spaces.contract.space import SHARE, WARMTH, WEIGHT, choice, flag, one_of, real

CONV_EXITS = ("scan", "msdnet", "light")  # that a study may draw unasked
POOLED_EXITS = ("light", "linear")  # whose heads read pooled features
_MAPS = (*CONV_EXITS, "linear")
_ANY = (*_MAPS, "cls")
# dimensions of `ExitConfig` that the objective alone reads
EXIT_NUMBERS = frozenset(
    {"exit_target", "exit_loss_weight", "shallow_weight", "alpha_kd", "kd_temperature"}
    | {"teacher", "feature_weight", "feature_form"}
)


@dataclass(frozen=True, kw_only=True)
class ExitConfig:
    """Which exits a network has, what decides them, and how they are taught."""

    exits: str = choice("none", *_MAPS, searched=False, doc="side branches that answer early")
    exit_places: str = choice(
        "all", "early", "late", accepts=numbered, when={"exits": _ANY}, searched=False,
        doc="which ends of stages have one; or their numbers from 0 on, such as 0+2",
    )  # fmt: skip
    attention: str = choice(
        "full", "depthwise", "reduced", "none", default="depthwise", when={"exits": ("scan",)},
        doc="map that an exit multiplies its features with; full is published, and expensive",
    )  # fmt: skip
    exit_decision: str = choice(
        "confidence", "gate", when={"exits": _ANY}, searched=False,
        doc="leave by the answer's confidence (thresholds are searched after training), or by a learned gate",
    )  # fmt: skip
    exit_reads: str = choice(
        "own", "all", when={"exits": POOLED_EXITS, "exit_decision": ("confidence",)}, searched=False, later=True,
        doc="own: pooled features of its place; all: also those of all places before it, nearly free",
    )  # fmt: skip
    exit_gate: str = choice(
        "light", "conv", accepts=one_of("light", "conv", "published"),
        when={"exits": _MAPS, "exit_decision": ("gate",)}, searched=False,
        doc="pooled features and a hidden layer, or two convolutions, more expensive than the network; also published: "
        "these without ReLUs, means over squares of 4 x 4 pixels",
    )  # fmt: skip
    msdnet_pool: str = choice(
        "global", "squares", when={"exits": ("msdnet",)}, searched=False, later=True,
        doc="what msdnet exits average: all of their last map, or, as published, squares of 2 x 2 pixels of it",
    )  # fmt: skip
    exit_target: float = real(
        0.0,
        0.6,
        within=SHARE,
        default=0.3,
        when={"exit_decision": ("gate",)},
        doc="share of images that should leave at each exit",
    )
    exit_loss_weight: float = real(
        0.3,
        30.0,
        within=WEIGHT,
        default=1.0,
        log=True,
        when={"exit_decision": ("gate",)},
        searched=False,
        doc="of that target",
    )
    shallow_weight: float = real(
        0.1, 0.3, within=WEIGHT, default=0.2, when={"exit_decision": ("gate",)}, searched=False,
        doc="of each exit's own cross-entropy over all images",
    )  # fmt: skip
    alpha_kd: float = real(
        0.0, 0.9, within=SHARE, default=0.5, when={"exits": _ANY, "exit_decision": ("confidence",)},
        doc="share of an exit's loss that is distillation from the teacher",
    )  # fmt: skip
    kd_temperature: float = real(
        1.0, 8.0, within=WARMTH, default=3.0, when={"exits": _ANY, "exit_decision": ("confidence",)}, searched=False,
        doc="of distillation",
    )  # fmt: skip
    teacher: str = choice(
        "deepest", "ensemble", when={"exits": _ANY, "exit_decision": ("confidence",)},
        searched=False, doc="whose answers exits learn",
    )  # fmt: skip
    feature_weight: float = real(
        1e-7, 1e-2, within=WEIGHT, default=6.4e-5, log=True,
        when={"exits": ("scan",), "exit_decision": ("confidence",)},
        searched=False, doc="of the distance between an exit's features and the deepest ones (published sum: 5e-7)",
    )  # fmt: skip
    feature_form: str = choice(
        "batch_mean", "code_sum", when={"exits": ("scan",), "exit_decision": ("confidence",)},
        searched=False, doc="mean over images, or the published sum that grows with the batch",
    )  # fmt: skip
    detach_trunk: bool = flag(
        default=False,
        when={"exits": _ANY},
        searched=False,
        doc="exits learn without changing the network before them",
    )

    @property
    def has_exits(self) -> bool:
        return self.exits != "none"

    @property
    def reads_all(self) -> bool:
        """Whether an exit reads the features of the places before it too."""
        pooled = self.exits in POOLED_EXITS and self.exit_decision == "confidence"
        return self.exit_reads == "all" and pooled

    @property
    def head_side(self) -> int:
        """Pixels on a side of the map that scan heads pool, where the network's own map can be that small."""
        return 4

    @property
    def head_filters(self) -> int:
        """Filters of the heads' bottlenecks, at most; families with a width multiplier scale them."""
        return 128
