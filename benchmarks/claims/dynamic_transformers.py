"""Mersha, "Dynamic Transformer Networks", Dynamic Neural Networks workshop at ICML, 2022.

Differs: smaller transformers, equal batch and epochs for all of them. The skipping network (DT) is the published one:
its oracles learn from the loss on their logits alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.claims.claim import Claim, Results, Variant, average
from benchmarks.claims.scales import Scale
from benchmarks.claims.verdicts import Pair

PAPER = "dynamic_transformers"
LITERAL = {"oracle": "dt", "dt_grad": "literal"}


def routed(scale: Scale, family: str, **values: Any) -> Variant:
    return Variant("accuracy", family, {**scale.routed, **values}, scale.routed_epochs)


def mixing(scale: Scale, aggregator: str) -> Variant:
    return routed(scale, "dense_vit", aggregator=aggregator)


def skipping(scale: Scale, loss: str) -> Variant:
    return routed(scale, "skip_vit", **LITERAL, loss=loss)


def against_plain(scale: Scale) -> Mapping[str, Variant]:
    return {"wsdc": mixing(scale, "wsdc"), "other": routed(scale, "dense_vit", gated=False)}


def against_wdc(scale: Scale) -> Mapping[str, Variant]:
    return {"wsdc": mixing(scale, "wsdc"), "other": mixing(scale, "wdc")}


def against_dt(scale: Scale) -> Mapping[str, Variant]:
    return {"wsdc": mixing(scale, "wsdc"), "other": skipping(scale, "logit_sq")}


def gradients(scale: Scale) -> Mapping[str, Variant]:
    """Untrained networks: whether a gradient can flow does not depend on training."""

    def one(how: str) -> Variant:
        params = {**scale.routed, "oracle": "dt", "dt_grad": how, "loss": "score_sq"}
        return Variant("oracle_gradient", "skip_vit", params, 0)

    return {"literal": one("literal"), "straight_through": one("st")}


def skip_losses(scale: Scale) -> Mapping[str, Variant]:
    return {"score_sq": skipping(scale, "score_sq"), "logit_sq": skipping(scale, "logit_sq")}


def accuracy_pair(results: Results) -> Pair:
    return results["wsdc"]["accuracy"], results["other"]["accuracy"]


def gradient_pair(results: Results) -> Pair:
    return results["literal"]["gradient"], results["straight_through"]["gradient"]


def open_pair(results: Results) -> Pair:
    return results["score_sq"]["open"], results["logit_sq"]["open"]


def half_pair(results: Results) -> Pair:
    return results["skipping"]["open"], 0.5


def half_note(results: Sequence[Results]) -> str:
    found = average(one["skipping"]["accuracy"] for one in results)
    return f"accuracy {100 * found:.1f} %; the first and the last layer have no gate and are not counted"


def macs_note(results: Sequence[Results]) -> str:
    macs = [average(one[role]["macs"] for one in results) for role in ("wsdc", "other")]
    return f"MACs {macs[0]:.2f} and {macs[1]:.2f} of the baseline's"


def skip_note(results: Sequence[Results]) -> str:
    found = [average(one[role]["accuracy"] for one in results) for role in ("score_sq", "logit_sq")]
    return f"accuracy {100 * found[0]:.1f} and {100 * found[1]:.1f} %"


CLAIMS = (
    Claim(
        paper=PAPER, name="wsdc_over_plain",
        statement="dense connections with dropped weights (WSDC) beat the plain transformer at moderate depth",
        variants=against_plain, pair=accuracy_pair, note=macs_note,
    ),
    Claim(
        paper=PAPER, name="wsdc_over_wdc", statement="WSDC beats dense connections without dropout (WDC)",
        variants=against_wdc, pair=accuracy_pair, note=macs_note,
    ),
    Claim(
        paper=PAPER, name="wsdc_over_skipping", statement="WSDC beats the skipping transformer (DT)",
        variants=against_dt, pair=accuracy_pair, note=macs_note,
    ),
    Claim(
        paper=PAPER, name="literal_gradient",
        statement="as published, cross-entropy gives DT's oracles no gradient at all; straight through it does",
        variants=gradients, pair=gradient_pair, rule="zero", share=False,
    ),
    Claim(
        paper=PAPER, name="score_over_logit",
        statement="the squared score closes more layers than the published squared logit",
        variants=skip_losses, pair=open_pair, rule="below", matters=0.05,
        note=skip_note,
    ),
    Claim(
        paper=PAPER, name="half_skipped", statement="the skipping transformer leaves out about half of its layers",
        variants=lambda scale: {"skipping": skipping(scale, "logit_sq")}, pair=half_pair, rule="close", margin=0.1,
        share=False, note=half_note,
    ),
)  # fmt: skip
