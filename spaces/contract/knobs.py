"""Run-time settings of a trained network, and the gates that they settle for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spaces.contract.exit_rules import ExitRule

if TYPE_CHECKING:
    from spaces.contract.policies import Fixed

ORDERS = ("sequential", "arbitrary")
POLICIES = ("threshold", "always_on", "scaled_on", "stochastic", "ensemble")
RECALIBRATIONS = ("none", "sample", "same")
Rates = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Run-time settings of a trained network; none of them needs training.

    policy: threshold (open above tau), always_on, scaled_on (always on, scaled by mean rates), stochastic (each gate
    drawn with its probability), ensemble (mean probability of `passes` stochastic passes).
    tau: one threshold, or one a gate by name. prune: gates whose open rate is within this of 0 or 1 are settled
    for good; None keeps all. recalibrate: batch-norm statistics refreshed on training images before use, with
    gates "sample"d as in training or deciding the "same" as at inference, by so many batches of so many images (None:
    as in training). exit_*, fallback: see ExitRule; "none"
    leaves exits without a gate unused, "every" evaluates all of them and lets nobody leave. order: of layers that can
    change places, sequential, or arbitrary (a new one each batch). keep: the layers that are run,
    None for all.
    """

    policy: str = "threshold"
    tau: float | Mapping[str, float] = 0.5
    passes: int = 1
    prune: float | None = None
    recalibrate: str = "none"
    recalibration_batches: int = 0
    recalibration_images: int | None = None
    exit_rule: str = "none"
    exit_thresholds: tuple[float, ...] = ()
    exit_temperatures: tuple[float, ...] = ()
    exit_judges: tuple[tuple[float, ...], ...] = ()
    fallback: str = "deepest"
    order: str = "sequential"
    keep: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("exit_thresholds", "exit_temperatures", "exit_judges", "keep"):
            if isinstance(values := getattr(self, name), list):  # as read from JSON
                frozen = tuple(tuple(v) if isinstance(v, list) else v for v in values)
                object.__setattr__(self, name, frozen)
        for name, allowed in (
            ("order", ORDERS),
            ("policy", POLICIES),
            ("recalibrate", RECALIBRATIONS),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}: {value} is not one of {', '.join(allowed)}")
        self.exits()  # raises for a rule that cannot be
        taus = self.tau.values() if isinstance(self.tau, Mapping) else [self.tau]
        if any(not 0 <= tau <= 1 for tau in taus):
            raise ValueError(f"tau: {self.tau} is not between 0 and 1")
        if self.policy == "ensemble" and self.passes < 2:
            raise ValueError(f"passes: an ensemble needs at least 2, not {self.passes}")

    def as_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults, and the policy with its own setting."""
        out: dict[str, Any] = {"policy": self.policy}
        if self.policy == "threshold":
            out["tau"] = dict(self.tau) if isinstance(self.tau, Mapping) else self.tau
        if self.policy in ("stochastic", "ensemble"):
            out["passes"] = self.passes
        if self.prune is not None:
            out["prune"] = self.prune
        if self.recalibrate != "none":
            out["recalibrate"] = self.recalibrate
            out["recalibration_batches"] = self.recalibration_batches
            if self.recalibration_images is not None:
                out["recalibration_images"] = self.recalibration_images
        if self.exit_rule != "none":
            out |= self._exits_as_dict()
        if self.order != "sequential":
            out |= {"order": self.order, "passes": self.passes}
        if self.keep is not None:
            out["keep"] = list(self.keep)
        return out

    def _exits_as_dict(self) -> dict[str, Any]:
        thresholds = list(self.exit_thresholds)
        out: dict[str, Any] = {"exit_rule": self.exit_rule, "exit_thresholds": thresholds}
        if self.fallback != "deepest":
            out["fallback"] = self.fallback
        if self.exit_temperatures:
            out["exit_temperatures"] = list(self.exit_temperatures)
        if self.exit_judges:
            out["exit_judges"] = [list(weights) for weights in self.exit_judges]
        return out

    def without_exits(self) -> Knobs:
        """The same where no image leaves early."""
        return replace(
            self,
            exit_rule="none",
            exit_thresholds=(),
            exit_temperatures=(),
            exit_judges=(),
            fallback="deepest",
        )

    def exits(self) -> ExitRule | None:
        """The rule by which images leave; None when exits are not used."""
        if self.exit_rule == "none":
            return None
        if self.exit_rule == "every":
            return ExitRule(every=True)
        return ExitRule(
            rule=self.exit_rule,
            thresholds=self.exit_thresholds,
            fallback=self.fallback,
            temperatures=self.exit_temperatures,
            judges=self.exit_judges,
        )

    @property
    def random(self) -> bool:
        """Whether answers depend on a draw, so that the setting cannot be shipped as it was measured."""
        return are_random({"policy": self.policy, "order": self.order})


def are_random(knobs: Mapping[str, Any]) -> bool:
    """`Knobs.random` of knobs as they are stored, of which there may be many thousands."""
    return knobs.get("policy") in ("stochastic", "ensemble") or knobs.get("order") == "arbitrary"


def collapsed_gates(rates: Rates, eps: float) -> Fixed:
    """Gate units whose measured open rate is within eps of 0 or 1, settled there; the others stay undecided."""
    return {name: tuple(_settled(rate, eps) for rate in units) for name, units in rates.items()}


def _settled(rate: float, eps: float) -> float | None:
    if rate <= eps:
        return 0.0
    return 1.0 if rate >= 1 - eps else None
