"""Ehteshami Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks", KI, 2020.

Differs: where networks are compared with a smaller baseline, gates are trained towards shares of the MACs on both
sides of its own, and compared at its MACs by a line between the nearest two; the paper's losses have no target, and
equal MACs would be luck. Joint gates have the paper's loss, the sums of equations 4 to 6. Its factors are multiplied by
a constant of the scale, for trainings of few steps close too many gates otherwise. Inference is by threshold, as in the
paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.claims.claim import Claim, Results, Variant, average, between
from benchmarks.claims.scales import Scale
from benchmarks.claims.verdicts import Pair

PAPER = "layer_and_channel_gates"
FACTORS = ((0.09, 0.15), (0.05, 0.10), (0.02, 0.03))  # of layers and of filters: three of Table 1
HALF = 0.5  # of the ungated network's MACs
WEIGHT = 10.0  # of the MAC loss, that of Verelst and Tuytelaars, "Dynamic Convolutions", CVPR, 2020


def gated(scale: Scale, granularity: str) -> dict[str, Variant]:
    """A network for each MAC target."""
    common = {
        **scale.residual,
        "backbone": scale.large,
        "shortcut": "A",
        "granularity": granularity,
    }
    if granularity == "channel":
        common |= {"channel_where": "inner", "channel_group": 1}
    common |= {"loss": "mac_quad", "loss_weight": WEIGHT}
    return {
        f"{granularity} {target}": Variant(
            "accuracy", "gated_resnet", common | {"target": target}, scale.residual_epochs
        )
        for target in scale.fractions
    }


def target_free(scale: Scale, granularity: str) -> dict[str, Variant]:
    """A network for each pair of factors, under the paper's own loss and with its own gates."""
    common = {
        **scale.residual,
        "backbone": scale.large,
        "shortcut": "A",
        "granularity": granularity,
        "channel_where": "inner",
        "channel_group": 1,
        "gate_bn": False,
        "temperature": 0.67,
        "loss": "target_free",
        "reduction": "sum",
    }
    found = {}
    for of_layers, of_filters in FACTORS:
        factors = {"gamma_channel": scale.pressure * of_filters}
        if granularity == "joint":
            factors["lambda_layer"] = scale.pressure * of_layers
        found[f"{granularity} {of_filters}"] = Variant(
            "accuracy", "gated_resnet", common | factors, scale.residual_epochs
        )
    return found


def ungated(scale: Scale) -> dict[str, Variant]:
    """The network that gates are put on, without them."""
    return _static(scale, scale.large)


def plain(scale: Scale) -> dict[str, Variant]:
    """The smaller baseline, at whose MACs the others are compared."""
    return _static(scale, scale.small)


def _static(scale: Scale, backbone: str) -> dict[str, Variant]:
    params = {**scale.residual, "backbone": backbone, "shortcut": "A", "gated": False}
    return {"plain": Variant("accuracy", "gated_resnet", params, scale.residual_epochs)}


def both(scale: Scale) -> Mapping[str, Variant]:
    return gated(scale, "channel") | gated(scale, "layer") | plain(scale)


def at_macs(results: Results, kind: str, macs: float) -> float | None:
    """Accuracy at these MACs, between the nearest cheaper and more expensive network; None outside of them."""
    points = [
        (result["total"], result["accuracy"])
        for role, result in results.items()
        if role.startswith(kind)
    ]
    return between(points, macs)


def channel_layer_pair(results: Results) -> Pair | None:
    macs = results["plain"]["total"]
    channel, layer = at_macs(results, "channel", macs), at_macs(results, "layer", macs)
    return None if channel is None or layer is None else (channel, layer)


def layer_plain_pair(results: Results) -> Pair | None:
    found = at_macs(results, "layer", results["plain"]["total"])
    return None if found is None else (found, results["plain"]["accuracy"])


def channel_plain_pair(results: Results) -> Pair | None:
    found = at_macs(results, "channel", results["plain"]["total"])
    return None if found is None else (found, results["plain"]["accuracy"])


def joint_channel_pair(results: Results) -> Pair | None:
    """At the middle of the MACs that both kinds of networks reach; None where they share none."""
    spans = [
        [result["total"] for role, result in results.items() if role.startswith(kind)]
        for kind in ("joint", "channel")
    ]
    low, high = max(map(min, spans)), min(map(max, spans))
    if low > high:
        return None
    joint, channel = (at_macs(results, kind, (low + high) / 2) for kind in ("joint", "channel"))
    return None if joint is None or channel is None else (joint, channel)


def half_pair(results: Results) -> Pair | None:
    """The largest joint network that saves half of the MACs, and the one without gates; None where none saves so."""
    plain = results["plain"]
    saving = [
        (result["total"], result["accuracy"])
        for role, result in results.items()
        if role.startswith("joint") and result["total"] <= HALF * plain["total"]
    ]
    return (max(saving)[1], plain["accuracy"]) if saving else None


def points_note(results: Sequence[Results]) -> str:
    """Mean accuracy and MACs of every network, MACs as a share of the small baseline's."""
    parts = []
    for role in results[0]:
        accuracy = average(one[role]["accuracy"] for one in results)
        macs = average(one[role]["total"] / one["plain"]["total"] for one in results)
        parts.append(f"{role}: {100 * accuracy:.1f} % at {macs:.2f}")
    return "MACs over the baseline's: " + ", ".join(parts)


CLAIMS = (
    Claim(
        paper=PAPER, name="channel_over_layer",
        statement="channel gating is more accurate than layer gating at equal MACs",
        variants=both, pair=channel_layer_pair, note=points_note,
    ),
    Claim(
        paper=PAPER, name="layer_under_plain",
        statement="a layer-gated ResNet loses to a plain one of six layers less at equal MACs",
        variants=lambda scale: gated(scale, "layer") | plain(scale), pair=layer_plain_pair, rule="below",
        note=points_note,
    ),
    Claim(
        paper=PAPER, name="channel_over_plain",
        statement="a channel-gated ResNet beats a plain one of six layers less at equal MACs",
        variants=lambda scale: gated(scale, "channel") | plain(scale), pair=channel_plain_pair, note=points_note,
    ),
    Claim(
        paper=PAPER, name="joint_over_channel",
        statement="joint gating is no worse than channel gating at equal MACs, within a point",
        variants=lambda scale: target_free(scale, "joint") | target_free(scale, "channel") | ungated(scale),
        pair=joint_channel_pair, rule="no_worse", margin=0.01, note=points_note,
    ),
    Claim(
        paper=PAPER, name="half_saved",
        statement="joint gates save half of the MACs and lose no more than a point of accuracy",
        variants=lambda scale: target_free(scale, "joint") | ungated(scale), pair=half_pair, rule="no_worse",
        margin=0.01, note=points_note,
    ),
)  # fmt: skip
