"""Thresholds by name, as numbers that come with a call."""

from __future__ import annotations

from spaces.contract.exit_rules import ExitRule
from spaces.contract.knobs import Knobs
from spaces.contract.policies import AlwaysOn, Gate, Threshold
from spaces.deploy.thresholds import policy_at, settled_by_all, thresholds_of


def gate(name: str, kind: str = "layer") -> Gate:
    return Gate(name=name, kind=kind, block=0, units=2, offset=0, macs=1.0)


GATES = [gate("block0.layer"), gate("block1.layer"), gate("block2.layer")]


def test_gates_that_decide_have_a_threshold_and_exits_behind_them() -> None:
    knobs = Knobs(
        tau={"block0.layer": 0.1, "block1.layer": 0.2, "block2.layer": 0.3},
        exit_rule="maxprob",
        exit_thresholds=(0.7, 0.8),
    )
    fixed = {"block0.layer": (None, 1.0), "block1.layer": (1.0, 0.0)}
    found = thresholds_of(GATES, knobs, fixed)
    assert found == {"block0.layer": 0.1, "block2.layer": 0.3, "exit0": 0.7, "exit1": 0.8}


def test_where_a_gate_decides_who_leaves_the_exit_has_no_threshold_of_its_own() -> None:
    gates = [gate("exit0.stay", "exit")]
    assert thresholds_of(gates, Knobs(tau=0.4), {}) == {"exit0.stay": 0.4}
    assert thresholds_of(GATES, Knobs(policy="always_on"), {}) == {}


def test_a_policy_takes_other_thresholds() -> None:
    rule = ExitRule(thresholds=(0.5,))
    named = {"block0.layer": 0.5, "exit0": 0.5}
    changed = policy_at(Threshold(tau=0.5, exits=rule), named, [0.1, 0.9])
    assert isinstance(changed, Threshold)
    assert isinstance(changed.tau, dict)
    assert changed.tau["block0.layer"] == 0.1
    assert changed.exits == ExitRule(thresholds=(0.9,))
    assert policy_at(AlwaysOn(exits=rule), {"exit0": 0.5}, [0.9]).exits == changed.exits


def test_a_gate_is_settled_where_all_operating_points_settle_it_alike() -> None:
    first = {"a": (0.0, 1.0, None), "b": (1.0,)}
    second = {"a": (0.0, None, None)}
    assert settled_by_all([first]) == first
    assert settled_by_all([first, first]) == first
    assert settled_by_all([first, second]) == {"a": (0.0, None, None), "b": (None,)}
