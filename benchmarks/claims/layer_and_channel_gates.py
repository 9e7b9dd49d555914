"""Ehteshami Bejnordi and Krestel, "Dynamic Channel and Layer Gating in Convolutional Neural Networks", KI, 2020.

Differs: gates are trained towards shares of the baseline's MACs on both sides of the smaller baseline's, and
compared at its MACs by a line between the nearest two; the paper's losses have no target, and equal MACs would be luck.
Inference is by threshold, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.claims.claim import Claim, Results, Variant, average, between
from benchmarks.claims.scales import Scale
from benchmarks.claims.verdicts import Pair

PAPER = "layer_and_channel_gates"
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


def plain(scale: Scale) -> dict[str, Variant]:
    """The smaller baseline, at whose MACs the others are compared."""
    params = {**scale.residual, "backbone": scale.small, "shortcut": "A", "gated": False}
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
)  # fmt: skip
