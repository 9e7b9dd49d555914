"""Latency of images: the sum over the units that each of them ran."""

from __future__ import annotations

import pytest
import torch

from search.latency.predict import NetLatency, latency_summary, whole_shares
from search.latency.table import MissingUnitsError, Timed, merged
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.contract.units import Ran, units_of
from tests.search.latency.tables import table_of

TASK = Task(channels=3, height=32, width=32, classes=4)
OPEN = Knobs(policy="always_on")


def net_of(name: str, **values: object) -> DynamicNet:
    if name == "gated_resnet":
        values = {"backbone": "resnet8", **values}
    return Candidate.of(family(name), values, 1).build(TASK, 0).eval()


def clock_of(net: DynamicNet, **fields: object) -> NetLatency:
    batch = int(str(fields.get("batch", 1)))
    return NetLatency(net, table_of(units_of(net, batch=batch), **fields))


def bools(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_an_image_pays_for_the_blocks_that_it_ran_and_for_each_choice() -> None:
    net = net_of("gated_resnet")
    clock, names = clock_of(net), [gate.name for gate in net.gates]
    assert len(names) == 3
    rates = dict.fromkeys(names, (0.5,))
    opened = {name: bools(1, 0, 0) for name in names} | {names[0]: bools(1, 1, 0)}
    every, first, none = clock.of(Knobs(), rates, Ran(3, opened)).tolist()
    blocks = [u for u in clock.units(None) if u.kind == "block" and u.guard.settled is False]
    ms = [max(1.0, block.macs // 1000) for block in blocks]
    # a closed block takes 1 ms, which an open one does not pay
    assert every - none == sum(ms) - 3
    assert every - first == sum(ms[1:]) - 2
    always = [u for u in clock.units(None) if u.guard is None]
    # a call, what every image runs, closed blocks, and a quarter of a millisecond for each choice
    assert none == 1 + sum(max(1.0, u.macs // 1000) for u in always) + 3 + 3 * 0.25


def test_units_cost_what_they_take_in_a_network_of_their_size_not_alone() -> None:
    net = net_of("gated_resnet")
    alone, names = clock_of(net), [gate.name for gate in net.gates]
    static = [u.key for u in alone.units(None) if u.kind in ("stem", "head")]
    own = sum(alone.table.own_ms(key) for key in static)
    call = alone.table.call_ms
    timed = {
        key: Timed(unit=key, median=call + ms, low=0, high=9e9)
        for key, ms in (("whole", 1.5 * own), ("large", 0.8e6 * own), ("part", 1e6 * own))
    }
    table = merged(alone.table, timed)
    rates, ran = dict.fromkeys(names, (1.0,)), Ran(1, {name: bools(1) for name in names})
    before = float(NetLatency(net, table).of(OPEN, rates, ran))
    one = table.model_copy(update={"wholes": {"whole": static}})
    assert float(NetLatency(net, one).of(OPEN, rates, ran)) == pytest.approx(
        call + 1.5 * (before - call)
    )
    both = table.model_copy(update={"wholes": {"whole": static, "large": ["part"]}})
    near = whole_shares(both, torch.tensor([own, 1e6 * own, 1e3 * own]))
    assert near.tolist() == pytest.approx([1.5, 0.8, 1.15], abs=1e-5), "half-way in the logarithm"


def test_filters_that_are_closed_for_good_save_time_in_groups_where_they_are_cut_out() -> None:
    net = net_of("gated_resnet", granularity="channel", width=2.0)
    clock = clock_of(net)
    gate = next(one for one in net.gates if one.name == "block0.inner")
    rates = {one.name: (0.5,) * one.units for one in net.gates}
    block = next(u for u in clock.units(None) if u.kind == "block")
    assert block.inputs[0].shape[1] == 32

    def saved(share: float, clock: NetLatency = clock) -> float:
        """Of the block's time, with this share of its filters closed."""
        closed = round(share * gate.units)
        some = {gate.name: (0.0,) * closed + (0.5,) * (gate.units - closed)}
        before, after = (clock.of(Knobs(), r, Ran(1)) for r in (rates, rates | some))
        return float(before - after) / clock.table.own_ms(block.key)

    assert saved(0.25) == 0, "32 filters take as long as 24"
    assert saved(0.5) == saved(0.75) == pytest.approx(0.5)
    assert saved(1.0) == pytest.approx(1.0, abs=1e-3)
    assert saved(0.5, NetLatency(net, clock.table, in_cascade=True)) == 0, "nothing is cut there"


def test_cells_times_their_gates_are_timed_too() -> None:
    plain, gated = (net_of("gated_features", gated=one) for one in (False, True))
    firsts = [next(u for u in units_of(net) if u.kind == "first") for net in (plain, gated)]
    assert [len(unit.inputs) for unit in firsts] == [1, 2]
    assert firsts[0].key != firsts[1].key


def test_a_gate_that_never_varies_costs_nothing() -> None:
    net = net_of("gated_resnet")
    clock, names = clock_of(net), [gate.name for gate in net.gates]
    ran = Ran(1, {name: bools(1) for name in names})
    opened = clock.of(Knobs(), dict.fromkeys(names, (1.0,)), ran)
    assert opened == clock.of(OPEN, {}, ran)
    plain = net_of("gated_resnet", gated=False)
    assert float(clock.of(OPEN, {}, Ran(1))) == float(clock_of(plain).of(OPEN, {}, Ran(1)))
    closed = clock.of(Knobs(), dict.fromkeys(names, (0.0,)), Ran(1))
    assert float(closed) < float(opened)
    kinds = [unit.kind for unit, _ in clock.plan(Knobs(), dict.fromkeys(names, (0.0,)))]
    assert "gate" not in kinds
    assert "block" not in kinds


@pytest.mark.parametrize("name", ["multi_exit", "gated_resnet", "gated_mobilenet"])
def test_who_leaves_early_does_not_pay_for_what_lies_behind(name: str) -> None:
    net = net_of(name, exits="light")
    clock = clock_of(net)
    knobs = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(0.5,) * net.exit_count)
    ms = clock.of(knobs, {}, Ran(net.exit_count + 1, {}, torch.arange(net.exit_count + 1)))
    assert (ms.diff() > 0).all()
    heads = [u for u in clock.units(None) if u.leaving]
    unused = clock.of(OPEN, {}, Ran(1))
    assert float(ms[-1] - unused) == sum(max(1.0, u.macs // 1000) + 0.25 for u in heads)


def test_an_exit_that_a_gate_decides_is_paid_by_those_who_leave_there() -> None:
    net = net_of("gated_resnet", exits="light", exit_decision="gate")
    clock = clock_of(net)
    rates = {gate.name: (0.5,) for gate in net.gates}
    opened = {gate.name: bools(1, 1) for gate in net.gates} | {"exit0.stay": bools(0, 1)}
    plan = clock.plan(Knobs(), rates)
    left, stayed = clock.of(Knobs(), rates, Ran(2, opened, torch.tensor([0, net.exit_count])))
    assert left < stayed
    assert sum(unit.kind == "exit gate" for unit, _ in plan) == net.exit_count


def test_in_a_batch_each_image_pays_its_share_of_what_any_of_them_runs() -> None:
    net = net_of("gated_resnet")
    names = [gate.name for gate in net.gates]
    rates, one = dict.fromkeys(names, (0.5,)), dict.fromkeys(names, bools(1, 0, 0, 0))
    clock = clock_of(net, batch=2)
    ms = clock.of(Knobs(), rates, Ran(4, one))
    both = clock.of(Knobs(), rates, Ran(4, dict.fromkeys(names, bools(1, 1, 0, 0))))
    assert ms[0] == ms[1] > ms[2] == ms[3]
    # closed blocks are computed in a batch that has some
    assert float(ms[0] - both[0]) == 3 / 2


def test_a_unit_that_the_table_lacks_is_named() -> None:
    clock = NetLatency(net_of("gated_resnet"), table_of([]))
    with pytest.raises(
        MissingUnitsError, match=r"no time of \d+ units \(.*; profile the study again"
    ):
        clock.of(OPEN, {}, Ran(1))


def test_settings_that_draw_at_random_cost_all_that_is_open() -> None:
    net = net_of("gated_resnet")
    clock, ran = clock_of(net), Ran(1, {gate.name: bools(0) for gate in net.gates})
    whole = float(clock.of(OPEN, {}, ran))
    assert float(clock.of(Knobs(policy="stochastic"), {}, ran)) == whole
    assert float(clock.of(Knobs(policy="ensemble", passes=3), {}, ran)) == 3 * whole


def test_a_point_keeps_mean_p95_and_maximum() -> None:
    found = latency_summary(torch.tensor([1.0] * 98 + [5.0, 10.0]))
    assert found == pytest.approx({"latency_mean": 1.13, "latency_p95": 1.0, "latency_max": 10.0})
