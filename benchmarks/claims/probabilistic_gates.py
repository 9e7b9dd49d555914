"""Herrmann, Bowen and Zabih, "Deep networks with probabilistic gates", 2018.

Differs: small CIFAR ResNets, trained for far fewer epochs, and a quadratic loss of weight 2. Accuracies are those of
stochastic passes, as in the paper's tables, unless a claim is about another policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.claims.claim import Claim, Results, Variant, average, between
from benchmarks.claims.scales import Scale
from benchmarks.claims.verdicts import Pair

PAPER = "probabilistic_gates"
HIGH = 0.8
OTHERS = ("threshold", "stochastic", "always_on")
PRUNED = "pruned_0.1"
AROUND = (0.3, 0.6, 0.9)  # constant targets beside a variable one


def gated(scale: Scale, target: float, **values: Any) -> Variant:
    params = {**scale.gates, "granularity": "layer", "target": target, **values}
    options = {"passes": scale.passes, "recalibration": scale.recalibration}
    return Variant("policies", "gated_resnet", params, scale.gates_epochs, options=options)


def mid(scale: Scale, **values: Any) -> dict[str, Variant]:
    """A variant for each mid target, its role the name of what was set."""
    name = " ".join(str(value) for value in values.values())
    return {f"{name} {target}": gated(scale, target, **values) for target in scale.mid_targets}


def per_batch(scale: Scale) -> dict[str, Variant]:
    return mid(scale, loss="per_batch", gate="dependent")


def per_gate(scale: Scale) -> dict[str, Variant]:
    return mid(scale, loss="per_gate", gate="dependent")


def independent(scale: Scale) -> dict[str, Variant]:
    return mid(scale, loss="per_batch", gate="independent")


def all_three(scale: Scale) -> Mapping[str, Variant]:
    return per_batch(scale) | per_gate(scale) | independent(scale)


def annealed(scale: Scale) -> Mapping[str, Variant]:
    """Targets 1, .95, .9, .85, .8, all of them within the first quarter of the training, and .8 from the start."""
    falls = {
        "target_schedule": "step",
        "anneal_from": 1.0,
        "anneal_step": 0.05,
        "anneal_every": 0.05,
    }
    common = {"loss": "per_batch", "gate": "dependent"}
    return {
        "annealed": gated(scale, HIGH, **common, **falls),
        "constant": gated(scale, HIGH, **common),
    }


def falling(scale: Scale) -> Mapping[str, Variant]:
    """The loss that does not pull up what is below the target, and the quadratic one."""
    return mid(scale, loss="const_quad", gate="dependent") | per_batch(scale)


def variable(scale: Scale) -> Mapping[str, Variant]:
    """A target that follows the batches, and constant ones on both sides of where it may end."""
    common = {"loss": "per_batch", "gate": "dependent"}
    constant = {f"constant {t}": gated(scale, t, **common) for t in AROUND}
    return constant | {
        "variable": gated(scale, HIGH, **common, target_schedule="mean", target_start=HIGH)
    }


def mean_of(results: Results, kind: str, value: str) -> float:
    """Mean of a value over the roles whose name starts so."""
    return average(result[value] for role, result in results.items() if role.startswith(kind))


def losses_pair(results: Results) -> Pair:
    return mean_of(results, "per_batch", "stochastic"), mean_of(results, "per_gate", "stochastic")


def gates_pair(results: Results) -> Pair:
    return (
        mean_of(results, "per_batch independent", "stochastic"),
        mean_of(results, "per_batch dependent", "stochastic"),
    )


def policy_pair(results: Results) -> Pair:
    return mean_of(results, "", "threshold"), mean_of(results, "", "stochastic")


def annealing_pair(results: Results) -> Pair:
    return results["annealed"]["stochastic"], results["constant"]["stochastic"]


def falling_pair(results: Results) -> Pair:
    return (
        mean_of(results, "const_quad", "stochastic"),
        mean_of(results, "per_batch", "stochastic"),
    )


def variable_pair(results: Results) -> Pair | None:
    """At the MACs of the variable target, where constant ones have some on both sides."""
    constant = [
        (one["stochastic_macs"], one["stochastic"])
        for role, one in results.items()
        if role.startswith("constant")
    ]
    found = between(constant, results["variable"]["stochastic_macs"])
    return None if found is None else (results["variable"]["stochastic"], found)


def collapse_pair(results: Results) -> Pair:
    """The share of gates that are nearly always or nearly never open, and half of them."""
    return average(result[PRUNED]["settled"] for result in results.values()), 0.5


def pruning_pair(results: Results) -> Pair | None:
    """None where no gate was near 0 or 1: there was nothing to prune."""
    if not any(result[PRUNED]["settled"] for result in results.values()):
        return None
    return average(result[PRUNED]["accuracy"] for result in results.values()), mean_of(
        results, "", "threshold"
    )


def ensemble_pair(results: Results) -> Pair:
    return mean_of(results, "", "ensemble"), max(mean_of(results, "", policy) for policy in OTHERS)


def macs_note(first: str, second: str, value: str = "stochastic_macs") -> Any:
    def note(results: Sequence[Results]) -> str:
        shares = [average(mean_of(one, kind, value) for one in results) for kind in (first, second)]
        return f"MACs {shares[0]:.2f} and {shares[1]:.2f} of the baseline's"

    return note


def policy_note(results: Sequence[Results]) -> str:
    macs = [
        average(mean_of(one, "", v) for one in results)
        for v in ("threshold_macs", "stochastic_macs")
    ]
    return f"MACs {macs[0]:.2f} and {macs[1]:.2f} of the baseline's"


def pruning_note(results: Sequence[Results]) -> str:
    parts = []
    for eps in ("0.02", "0.1", "0.25"):
        one = [r[f"pruned_{eps}"] for seed in results for r in seed.values()]
        settled, accuracy = (average(r[name] for r in one) for name in ("settled", "accuracy"))
        parts.append(
            f"{100 * settled:.0f} % of gates within {eps} of 0 or 1: {100 * accuracy:.1f} %"
        )
    return "; ".join(parts)


def collapse_note(results: Sequence[Results]) -> str:
    targets = ", ".join(role.rpartition(" ")[2] for role in results[0])
    return f"gates within 0.1 of 0 or 1; targets {targets}"


def variable_note(results: Sequence[Results]) -> str:
    macs = average(one["variable"]["stochastic_macs"] for one in results)
    return f"at {macs:.2f} of the baseline's MACs"


def ensemble_note(results: Sequence[Results]) -> str:
    each = {
        name: average(mean_of(one, "", name) for one in results) for name in (*OTHERS, "scaled_on")
    }
    return ", ".join(
        f"{name.replace('_', ' ')} {100 * value:.1f} %" for name, value in each.items()
    )


CLAIMS = (
    Claim(
        paper=PAPER, name="per_batch",
        statement="a per-batch loss is at least as accurate as a per-gate one at mid targets",
        variants=lambda scale: per_batch(scale) | per_gate(scale), pair=losses_pair,
        note=macs_note("per_batch", "per_gate"),
    ),
    Claim(
        paper=PAPER, name="independent", statement="gates that ignore the image come close to gates that read it",
        variants=lambda scale: independent(scale) | per_batch(scale), pair=gates_pair, rule="close", margin=0.01,
        note=macs_note("per_batch independent", "per_batch dependent"),
    ),
    Claim(
        paper=PAPER, name="threshold", statement="threshold inference is at least as accurate as stochastic inference",
        variants=all_three, pair=policy_pair, note=policy_note,
    ),
    Claim(
        paper=PAPER, name="annealing",
        statement="annealing the target from 1 helps at a high target (0.8) from scratch",
        variants=annealed, pair=annealing_pair, note=macs_note("annealed", "constant"),
    ),
    Claim(
        paper=PAPER, name="pruning", statement="settling gates within 0.1 of 0 or 1 for good loses next to nothing",
        variants=per_batch, pair=pruning_pair, rule="no_worse", margin=0.01, note=pruning_note,
    ),
    Claim(
        paper=PAPER, name="ensemble",
        statement="an ensemble of stochastic passes beats threshold, stochastic and always-on inference",
        variants=all_three, pair=ensemble_pair, note=ensemble_note,
    ),
    Claim(
        paper=PAPER, name="mode_collapse",
        statement="with a per-batch loss, most gates that ignore the image are nearly always or nearly never open",
        variants=independent, pair=collapse_pair, share=False, matters=0.1, note=collapse_note,
    ),
    Claim(
        paper=PAPER, name="const_quad",
        statement="a loss without a penalty below the target is no less accurate than the quadratic one",
        variants=falling, pair=falling_pair, rule="no_worse", margin=0.01, note=macs_note("const_quad", "per_batch"),
    ),
    Claim(
        paper=PAPER, name="variable_target",
        statement="a target that follows the batches is more accurate than constant ones at equal MACs",
        variants=variable, pair=variable_pair, note=variable_note,
    ),
)  # fmt: skip
