"""What every family promises, over the registry: a new family is tested by existing.

Shapes: B images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.knobs import POLICIES, Knobs
from spaces.contract.net import DynamicNet, Plan
from spaces.contract.policies import AlwaysOn, Sampled, Threshold
from tests.spaces.families.cases import (
    CASES,
    Case,
    counted_macs,
    counting,
    plain_twin,
    policies,
    soft_scaled,
)
from tests.spaces.variants import ADDED


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def net(case: Case, scramble: Callable[..., DynamicNet]) -> DynamicNet:
    return scramble(case.net())


def test_logits_decisions_and_macs_have_the_promised_shapes(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    for policy in policies(net, 6).values():
        output = net(images(6, case.task), policy)
        assert output.logits_BC.shape == (6, case.task.classes)
        assert output.macs_B.shape == (6,)
        assert output.macs_B.dtype == torch.float64
        assert [d.gate for d in output.decisions] == list(net.gates)
        for decision in output.decisions:
            assert decision.z_BU.shape in ((6, decision.gate.units), (1, decision.gate.units))


def test_the_offsets_of_gates_number_all_units_without_a_gap(net: DynamicNet) -> None:
    offset = 0
    for gate in net.gates:
        assert gate.offset == offset
        offset += gate.units
    assert net.total_units() == offset
    assert len({gate.name for gate in net.gates}) == len(net.gates)


def test_gates_that_are_all_open_give_the_baseline_to_the_bit(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    if not net.opens_to_plain:
        pytest.skip("this network adds to the plain one whatever its gates decide")
    x = images(6, case.task)
    fixed = {gate.name: (1.0,) * gate.units for gate in net.gates}
    wide = Sampled(seed=1, step=0, ids_B=torch.arange(6), units=net.total_units(), fixed=fixed)
    for training in (False, True):
        for policy in (AlwaysOn(), Threshold(tau=0.0), wide):
            gated = copy.deepcopy(net).train(training)
            plain = plain_twin(case, gated)
            assert torch.equal(gated(x, policy).logits_BC, plain(x).logits_BC)


def test_training_with_open_gates_moves_batch_norm_as_the_baseline_does(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    if not net.opens_to_plain:
        pytest.skip("this network adds to the plain one whatever its gates decide")
    gated = net.train()
    plain = plain_twin(case, gated)
    gated(images(6, case.task), AlwaysOn())
    plain(images(6, case.task))
    state = gated.state_dict()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_a_forward_pass_updates_every_batch_norm_at_most_once(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    net.train()
    net(images(6, case.task), policies(net, 6)["sampled"])
    counts = {k: int(v) for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
    assert set(counts.values()) <= {0, 1}, counts


def test_plain_weights_load_into_the_network_which_misses_only_what_it_adds(
    case: Case, net: DynamicNet
) -> None:
    plain = plain_twin(case, net)
    added = {name for name, _ in net.named_parameters()} - {
        name for name, _ in plain.named_parameters()
    }
    left = net.load_state_dict(plain.state_dict(), strict=False)
    assert left.unexpected_keys == []
    assert added <= set(left.missing_keys)
    named = {id(p): name for name, p in net.named_parameters()}
    gates = {named[id(p)] for p in net.gate_parameters()}
    assert gates <= added
    own = ADDED.get(case.candidate.family.name, ())
    assert all(name in gates or "exit_heads" in name or name.startswith(own) for name in added)


@pytest.mark.parametrize("count", [1, 2, 24])
def test_compact_execution_equals_masked(
    case: Case, net: DynamicNet, images: Callable[..., Tensor], count: int
) -> None:
    x = images(count, case.task)
    with torch.no_grad():
        for policy in policies(net, count).values():
            masked, compact = net(x, policy), net(x, policy, compact=True)
            torch.testing.assert_close(compact.logits_BC, masked.logits_BC, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(compact.macs_B, masked.macs_B, rtol=1e-12, atol=0)


def test_compact_decisions_are_the_masked_ones_where_the_block_runs_and_0_elsewhere(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    x = images(24, case.task)
    with torch.no_grad():
        for seed in range(6):
            policy = Sampled(seed=seed, step=0, ids_B=torch.arange(24), units=net.total_units())
            masked = {d.gate.name: d for d in net(x, policy).decisions}
            runs_B1 = {d.gate.block: d.z_BU for d in masked.values() if d.gate.kind == "layer"}
            for decision in net(x, policy, compact=True).decisions:
                gate = decision.gate
                expected = masked[gate.name].z_BU
                if gate.kind not in ("layer", "exit") and gate.block in runs_B1:
                    expected = expected * runs_B1[gate.block]
                assert torch.equal(decision.z_BU.expand(24, -1), expected.expand(24, -1)), gate.name


def test_compact_execution_is_refused_while_training(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    with pytest.raises(RuntimeError, match=r"call eval\(\) first"):
        net.train()(images(2, case.task), Threshold(), compact=True)


def test_macs_of_an_open_network_are_what_torch_counts(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    one = images(1, case.task)
    plain = plain_twin(case, net)
    assert counted_macs(plain, one, AlwaysOn()) == net.plain_macs == plain.plain_macs
    assert plain(one).macs_B.tolist() == [net.plain_macs]
    assert net(one, AlwaysOn()).macs_B.tolist() == [net.plain_macs + net.standing_macs]
    everything = Threshold(tau=0.0)
    assert net(one, everything).macs_B.tolist() == [
        counted_macs(net, one, everything, compact=True)
    ]


def test_macs_are_what_torch_counts_in_compact_execution_image_by_image(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    for one in images(2, case.task).split(1):
        for name, policy in policies(net, 1).items():
            if name in (
                "always",
                "low",
                "high",
                "soft",
            ):  # soft decisions are for training; they close nothing
                continue
            with torch.no_grad(), counting() as counter:
                macs = net(one, policy, compact=True).macs_B.item()
            assert 2 * macs == counter.get_total_flops(), name


def test_threshold_0_opens_and_threshold_1_closes_every_gate(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    x = images(4, case.task)
    if not soft_scaled(net):
        assert torch.equal(net(x, Threshold(tau=0.0)).logits_BC, net(x, AlwaysOn()).logits_BC)
    assert all(d.open_BU.all() for d in net(x, Threshold(tau=0.0)).decisions)
    assert not any(d.open_BU.any() for d in net(x, Threshold(tau=1.0)).decisions)


def test_an_image_is_answered_alike_wherever_it_stands_in_a_batch_and_alone(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    x, ids = images(8, case.task), torch.arange(8) * 7
    order = torch.tensor([3, 0, 7, 5, 1, 2, 6, 4])
    for knobs in (Knobs(), Knobs(policy="stochastic"), Knobs(policy="ensemble", passes=2)):
        whole = net.run(x, knobs, ids=ids)
        moved = net.run(x[order], knobs, ids=ids[order])
        torch.testing.assert_close(moved.logits_BC, whole.logits_BC[order], rtol=1e-10, atol=1e-10)
        assert torch.equal(moved.macs_B, whole.macs_B[order])
        for one, other in zip(moved.decisions, whole.decisions, strict=True):
            assert torch.equal(one.z_BU.expand(8, -1), other.z_BU.expand(8, -1)[order])
        alone = net.run(x[2:3], knobs, ids=ids[2:3])
        torch.testing.assert_close(alone.logits_BC, whole.logits_BC[2:3], rtol=1e-10, atol=1e-10)
        assert alone.macs_B.item() == whole.macs_B[2].item()


def test_nothing_is_remembered_from_one_forward_pass_to_the_next(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    x, other = images(6, case.task), images(3, case.task, seed=8)
    before = copy.deepcopy(net.state_dict())
    some = policies(net, 6)
    for name in ("threshold", "sampled", "pruned"):
        policy = some[name]
        for compact in (False, True):
            first = net(x, policy, compact=compact)
            net(other, AlwaysOn(), compact=not compact)
            again = net(x, policy, compact=compact)
            assert torch.equal(first.logits_BC, again.logits_BC), name
            assert torch.equal(first.macs_B, again.macs_B), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_every_knob_policy_runs_and_an_ensemble_pays_all_its_passes(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    x = images(4, case.task)
    rates = {gate.name: (0.5,) * gate.units for gate in net.gates}
    for policy in POLICIES:
        output = net.run(x, Knobs(policy=policy, passes=3), rates=rates)
        assert output.logits_BC.shape == (4, case.task.classes)
        assert output.macs_B.shape == (4,)
    passes = [net.run(x, Knobs(policy="stochastic"), step=3 * 2 + one) for one in range(3)]
    ensemble = net.run(x, Knobs(policy="ensemble", passes=3), step=2)
    mean = torch.stack([one.logits_BC.softmax(1) for one in passes]).mean(0)
    torch.testing.assert_close(ensemble.logits_BC.double().exp(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ensemble.macs_B, torch.stack([one.macs_B for one in passes]).sum(0))


def test_pruned_gates_cost_nothing_and_change_no_image_that_agrees_with_them(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    x = images(32, case.task)
    with torch.no_grad():
        free = net(x, Threshold())
        rates = {
            d.gate.name: tuple(d.open_BU.double().expand(32, -1).mean(0).tolist())
            for d in free.decisions
        }
        pruned = net.run(x, Knobs(prune=0.3), rates=rates)
    agree = torch.ones(32, dtype=torch.bool)
    for one, other in zip(free.decisions, pruned.decisions, strict=True):
        agree &= (one.open_BU == other.open_BU).expand(32, -1).all(1)
    if not soft_scaled(net):
        torch.testing.assert_close(
            pruned.logits_BC[agree], free.logits_BC[agree], rtol=1e-10, atol=1e-10
        )
    assert (pruned.macs_B[agree] <= free.macs_B[agree]).all()


def test_every_parameter_learns_from_the_objective(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    objective = net.train().objective(Plan(epochs=4, steps=16))
    objective.start_epoch(3)
    for step in range(48, 62):  # some, because training may leave out layers at random
        output = net(images(8, case.task), objective.policy(step, ids_B=torch.arange(8)))
        terms = objective.losses(output, torch.arange(8) % case.task.classes)
        assert next(iter(terms)) == "cross_entropy"
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        objective.after_step(output)
    unused = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_an_objective_continues_from_its_state(
    case: Case, net: DynamicNet, images: Callable[..., Tensor]
) -> None:
    plan = Plan(epochs=4, steps=3)
    first, second = net.objective(plan), net.objective(plan)
    first.start_epoch(2)
    output = net(images(4, case.task), first.policy(6, torch.arange(4)))
    labels = torch.zeros(4, dtype=torch.long)
    first.losses(output, labels)
    first.after_step(output)
    second.start_epoch(2)
    second.load(first.state())
    assert second.state() == first.state()
    ours, theirs = first.losses(output, labels), second.losses(output, labels)
    assert {k: float(v.detach()) for k, v in ours.items()} == {
        k: float(v.detach()) for k, v in theirs.items()
    }


def test_parameters_beyond_the_baselines_are_told_by_their_names(
    case: Case, net: DynamicNet
) -> None:
    plain = case.candidate.baseline().build(case.task, 0)
    baseline = {name for name, _ in plain.named_parameters()}
    names = [name for name, _ in net.named_parameters()]
    assert {name for name in names if not name.startswith(net.added)} == baseline
    assert set(net.depths()) == baseline
    heads = net.head_names()
    assert {name for name in names if name.startswith(net.added)} < heads
    assert len(heads & baseline) in (1, 2, 4), "weights and biases of one classifier, or of two"


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone(case: Case) -> None:
    before = torch.random.get_rng_state()
    one, same, other = (case.candidate.build(case.task, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_a_candidate_is_rebuilt_from_its_parameters(case: Case) -> None:
    again = Candidate.of(case.candidate.family, case.candidate.params, epochs=4)
    assert again.key == case.candidate.key
    assert again.params == case.candidate.params
    shapes = [(name, p.shape) for name, p in again.build(case.task, 0).named_parameters()]
    assert shapes == [(name, p.shape) for name, p in case.net().named_parameters()]


def test_the_variants_decide_both_ways(
    scramble: Callable[..., DynamicNet], images: Callable[..., Tensor]
) -> None:
    shares = []
    for case in CASES:
        for decision in scramble(case.net())(images(16, case.task), Threshold()).decisions:
            if len(decision.z_BU) == 16:  # the others are the same for every image by design
                shares += decision.open_BU.double().mean(0).tolist()
    assert 0.2 < sum(shares) / len(shares) < 0.8
    assert sum(0 < share < 1 for share in shares) > 0.2 * len(shares)
