"""Freiberger, Kun, Løvlie and Risi, "LayerShuffle: Enhancing Robustness in Vision Transformers by Randomizing Layer
Execution Order", 2024; the baseline with left-out layers is Fan, Grave and Joulin, "Reducing Transformer Depth on
Demand with Structured Dropout", ICLR, 2020.

As in the paper every network is a transformer that was trained in order and is then trained on in its own way. Differs:
small transformers, and the trained-in-order one is made here. The paper leaves open in which order merged plain
networks were run, so both are tried. To survive means to keep more than half of the accuracy above chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.claims.claim import Claim, Results, Variant, average
from benchmarks.claims.scales import Scale
from benchmarks.claims.verdicts import Pair

PAPER = "layershuffle"
DROPPED = 0.2
Variants = Callable[[Scale], Mapping[str, Variant]]


def base(scale: Scale) -> Variant:
    """Trained in order; all the others start from it."""
    return _variant(scale, scale.routed, scale.routed_epochs)


def refined(scale: Scale, copies: int = 1, **values: Any) -> Variant:
    params = {**scale.routed, **scale.refining, **values}
    return _variant(scale, params, scale.refining_epochs, base(scale), copies)


def _variant(
    scale: Scale,
    params: Mapping[str, Any],
    epochs: int,
    start: Variant | None = None,
    copies: int = 1,
) -> Variant:
    ordered = {"order_train": "identity", **params}
    return Variant("orders", "shuffled_vit", ordered, epochs, start, copies, {"draws": scale.draws})


def shuffled(scale: Scale) -> dict[str, Variant]:
    return {"shuffled": refined(scale, scale.copies, order_train="shuffle")}


def plain(scale: Scale) -> dict[str, Variant]:
    return {"plain": refined(scale, scale.copies)}


def layerdrop(scale: Scale) -> dict[str, Variant]:
    return {"layerdrop": refined(scale, layerdrop=DROPPED)}


def told(scale: Scale) -> dict[str, Variant]:
    return {"told": refined(scale, order_train="shuffle", ls_variant="position")}


def telling(scale: Scale) -> dict[str, Variant]:
    """The loss on places is the paper's sum over layers."""
    weight = float(scale.routed["layers"])
    return {
        "telling": refined(scale, order_train="shuffle", ls_variant="predict", pred_weight=weight)
    }


def arbitrary(first: str, second: str) -> Callable[[Results], Pair]:
    """Accuracy of two networks in any order."""
    return lambda results: (results[first]["arbitrary"], results[second]["arbitrary"])


def places_pair(results: Results) -> Pair:
    """The share of places told rightly, and 0.95: the paper's 0.9999 needs its training."""
    return results["telling"]["places"], 0.95


def survives(role: str, value: str, of: str = "sequential") -> Callable[[Results], Pair]:
    """The accuracy, and that which is half as far above chance as the network's undisturbed one."""

    def pair(results: Results) -> Pair:
        one = results[role]
        ours = one["kept"]["0.5"] if value == "half" else one[value]
        return ours, (one[of] + one["chance"]) / 2

    return pair


def ensemble_pair(results: Results) -> Pair:
    return results["shuffled"]["ensemble_arbitrary"], results["shuffled"]["arbitrary"]


def orders_note(role: str) -> Callable[[Sequence[Results]], str]:
    def note(results: Sequence[Results]) -> str:
        values = [
            100 * average(one[role][v] for one in results)
            for v in ("sequential", "arbitrary", "chance")
        ]
        return f"in order {values[0]:.1f}, in any {values[1]:.1f}, chance {values[2]:.1f} %"

    return note


def merged_note(role: str) -> Callable[[Sequence[Results]], str]:
    def note(results: Sequence[Results]) -> str:
        names = ("merged_sequential", "merged_arbitrary", "sequential", "arbitrary")
        values = [100 * average(one[role][v] for one in results) for v in names]
        return (
            f"merged in order {values[0]:.1f}, in any {values[1]:.1f}; alone in order {values[2]:.1f}, "
            f"in any {values[3]:.1f} %"
        )

    return note


def kept_note(results: Sequence[Results]) -> str:
    parts = []
    for role in results[0]:
        kept = [
            100 * average(one[role]["kept"][s] for one in results) for s in ("0.75", "0.5", "0.25")
        ]
        whole = 100 * average(one[role]["sequential"] for one in results)
        parts.append(f"{role} {whole:.1f}/" + "/".join(f"{value:.1f}" for value in kept))
    return "all, 3/4, 1/2, 1/4 of the layers: " + ", ".join(parts) + " %"


def in_any_order(role: str, variants: Variants, statement: str, *, rule: str = "above") -> Claim:
    """That the network of this role survives arbitrary order or, with rule "below", does not."""
    return Claim(
        paper=PAPER, name=f"{role}_order", statement=statement, variants=variants,
        pair=survives(role, "arbitrary"), rule=rule, matters=0.05, note=orders_note(role),
    )  # fmt: skip


def merging(
    name: str, variants: Variants, statement: str, order: str = "arbitrary", *, rule: str = "above"
) -> Claim:
    """That layers of several networks make one that survives this order or, with rule "below", do not."""
    role = name.partition("_")[0]
    return Claim(
        paper=PAPER, name=name, statement=statement, variants=variants,
        pair=survives(role, f"merged_{order}"), rule=rule, matters=0.05, note=merged_note(role),
    )  # fmt: skip


CLAIMS = (
    in_any_order("shuffled", shuffled, "a network trained shuffled survives arbitrary order"),
    in_any_order("plain", plain, "a network trained in order does not survive arbitrary order", rule="below"),
    in_any_order(
        "layerdrop", layerdrop, "a network trained with LayerDrop does not survive arbitrary order", rule="below"
    ),
    merging(
        "shuffled_merged", shuffled,
        "layers drawn from several shuffled networks make one that survives arbitrary order",
    ),
    merging(
        "plain_merged", plain,
        "layers drawn from several baselines make none that works, each layer at its own place",
        "sequential", rule="below",
    ),
    merging(
        "plain_merged_order", plain,
        "layers drawn from several baselines make none that survives arbitrary order", rule="below",
    ),
    Claim(
        paper=PAPER, name="shuffled_ensemble",
        statement="an ensemble of shuffled networks beats a single one in arbitrary order",
        variants=shuffled, pair=ensemble_pair,
    ),
    Claim(
        paper=PAPER, name="shuffled_pruning", statement="a shuffled network survives without half of its layers",
        variants=lambda scale: shuffled(scale) | plain(scale) | layerdrop(scale), pair=survives("shuffled", "half"),
        matters=0.05, note=kept_note,
    ),
    Claim(
        paper=PAPER, name="position_close",
        statement="telling layers their place changes the accuracy in any order only slightly",
        variants=lambda scale: told(scale) | shuffled(scale), pair=arbitrary("told", "shuffled"), rule="close",
        margin=0.02,
    ),
    Claim(
        paper=PAPER, name="predict_under_shuffled",
        statement="layers that also learn to tell their place are less accurate in any order",
        variants=lambda scale: telling(scale) | shuffled(scale), pair=arbitrary("telling", "shuffled"), rule="below",
    ),
    Claim(
        paper=PAPER, name="places_told", statement="layers that learn to tell their place nearly always do",
        variants=telling, pair=places_pair, share=False,
    ),
)  # fmt: skip
