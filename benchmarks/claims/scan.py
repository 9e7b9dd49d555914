"""Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable Neural Networks Framework Towards Compact and Efficient
Models", NeurIPS, 2019.

Differs: narrow ResNet-18s and few epochs; a cascade's thresholds are chosen on one half of the images and measured on
the other; its MACs are those that are run, side branches included, and not the published constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.claims.claim import Claim, Results, Variant, average
from benchmarks.claims.scales import Scale
from benchmarks.claims.verdicts import Pair

PAPER = "scan"
EARLY = (0, 1, 2)  # exits of a ResNet
UNTAUGHT: Mapping[str, Any] = {
    "alpha_kd": 0.0,
    "feature_weight": 1e-7,
}  # no distillation; the least weight that a search may draw


def multi_exit(scale: Scale, attention: str = "full", **values: Any) -> Variant:
    params = {**scale.exits, "exits": "scan", "attention": attention, **values}
    return Variant("exits", "multi_exit", params, scale.exits_epochs)


def whole(scale: Scale) -> dict[str, Variant]:
    return {"scan": multi_exit(scale)}


def static(scale: Scale, **values: Any) -> Variant:
    params = {**scale.exits, "gated": False, **values}
    return Variant("accuracy", "multi_exit", params, scale.exits_epochs)


def plain(scale: Scale) -> dict[str, Variant]:
    return {"plain": static(scale)}


def without_attention(scale: Scale) -> Mapping[str, Variant]:
    return whole(scale) | {"without": multi_exit(scale, "none")}


def without_distillation(scale: Scale) -> Mapping[str, Variant]:
    return whole(scale) | {"without": multi_exit(scale, **UNTAUGHT)}


def alone(scale: Scale) -> dict[str, Variant]:
    """Plain networks that end where an early exit is, each trained for itself."""
    return {f"alone {place}": static(scale, truncated=place) for place in EARLY}


def deep(scale: Scale) -> dict[str, Variant]:
    """The same, of a deeper network."""
    backbone = scale.deeper_exits
    return {
        "deep scan": multi_exit(scale, backbone=backbone),
        "deep plain": static(scale, backbone=backbone),
    }


def shallow(results: Results, role: str) -> float:
    """Mean accuracy of the early exits."""
    return average(results[role]["exits"][:-1])


def shallow_pair(results: Results) -> Pair:
    return shallow(results, "scan"), shallow(results, "without")


def ensemble_pair(results: Results) -> Pair:
    return results["scan"]["ensemble"], max(results["scan"]["exits"])


def second_pair(results: Results) -> Pair:
    return results["scan"]["exits"][1], results["plain"]["accuracy"]


def alone_pair(results: Results) -> Pair:
    return shallow(results, "scan"), average(results[f"alone {k}"]["accuracy"] for k in EARLY)


def deeper_pair(results: Results) -> Pair:
    """What the ensemble gains over the plain network: of the deeper network, and of the other."""
    return gain(results, "deep scan", "deep plain"), gain(results, "scan", "plain")


def gain(results: Results, scan: str, plain: str) -> float:
    return float(results[scan]["ensemble"] - results[plain]["accuracy"])


def cascade_pair(results: Results) -> Pair:
    """The baseline's MACs (1), and the cascade's at its accuracy: 2 where no budget reaches it."""
    reached = [
        macs for macs, right in results["scan"]["cascade"] if right >= results["plain"]["accuracy"]
    ]
    return 1.0, min(reached, default=2.0)


def exits_note(results: Sequence[Results]) -> str:
    return f"exits {_exits(results, 'scan')}, without {_exits(results, 'without')} %"


def ensemble_note(results: Sequence[Results]) -> str:
    return f"exits {_exits(results, 'scan')} %"


def _exits(results: Sequence[Results], role: str) -> str:
    """Mean accuracy of each exit, in per cent, shallow ones first."""
    by_exit = zip(*(one[role]["exits"] for one in results), strict=True)
    return "/".join(f"{100 * average(exit):.1f}" for exit in by_exit)


def alone_note(results: Sequence[Results]) -> str:
    each = [100 * average(one[f"alone {k}"]["accuracy"] for one in results) for k in EARLY]
    return f"exits {_exits(results, 'scan')}, alone {'/'.join(f'{one:.1f}' for one in each)} %"


def deeper_note(results: Sequence[Results]) -> str:
    plain = [
        100 * average(one[role]["accuracy"] for one in results) for role in ("deep plain", "plain")
    ]
    return f"plain networks {plain[0]:.1f} and {plain[1]:.1f} %"


def cascade_note(results: Sequence[Results]) -> str:
    plain_accuracy = average(one["plain"]["accuracy"] for one in results)
    missed = sum(cascade_pair(one)[1] == 2.0 for one in results)
    return f"baseline {100 * plain_accuracy:.1f} %" + (
        f"; not reached at {missed} seeds (counted as 2)" if missed else ""
    )


CLAIMS = (
    Claim(
        paper=PAPER, name="attention", statement="attention makes the shallow exits more accurate",
        variants=without_attention, pair=shallow_pair, note=exits_note,
    ),
    Claim(
        paper=PAPER, name="distillation",
        statement="distillation from the deepest classifier makes the shallow exits more accurate",
        variants=without_distillation, pair=shallow_pair, note=exits_note,
    ),
    Claim(
        paper=PAPER, name="exit_ensemble",
        statement="the ensemble of all exits is more accurate than every single exit",
        variants=whole, pair=ensemble_pair, note=ensemble_note,
    ),
    Claim(
        paper=PAPER, name="cascade", statement="a cascade needs fewer MACs than the baseline of equal accuracy",
        variants=lambda scale: whole(scale) | plain(scale), pair=cascade_pair, share=False, matters=0.1,
        note=cascade_note,
    ),
    Claim(
        paper=PAPER, name="second_exit", statement="the second of four classifiers is more accurate than the baseline",
        variants=lambda scale: whole(scale) | plain(scale), pair=second_pair, note=ensemble_note,
    ),
    Claim(
        paper=PAPER, name="alone",
        statement="shallow classifiers that share a trunk are more accurate than each trained alone",
        variants=lambda scale: whole(scale) | alone(scale), pair=alone_pair, note=alone_note,
    ),
    Claim(
        paper=PAPER, name="deeper", statement="a deeper network gains more by it", share=False,
        variants=lambda scale: whole(scale) | plain(scale) | deep(scale), pair=deeper_pair, note=deeper_note,
    ),
)  # fmt: skip
