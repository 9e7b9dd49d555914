"""The objective of gated networks: its terms, its schedules, what it draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.net import Output, Plan
from spaces.contract.policies import AlwaysOn, Decision, Sampled
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.families.gated_resnet import GatedResNet
from spaces.gates import sparsity
from spaces.gates.gate_objective import GateObjective
from spaces.gates.sparsity import EACH, LOSSES, TARGETED, Loss

Build = Callable[..., GatedResNet]
PLAN = Plan(epochs=10, steps=4, seed=6)
LABELS = torch.tensor([0, 1, 2, 3])


def objective(net: GatedResNet, plan: Plan = PLAN) -> GateObjective:
    found = net.objective(plan)
    assert isinstance(found, GateObjective)
    return found


def decided(net: GatedResNet, seed: int = 0) -> Output:
    """An output with decisions drawn by hand, a gradient to each."""
    generator = torch.Generator().manual_seed(seed)
    decisions = tuple(
        Decision(
            g, (torch.rand(4, g.units, generator=generator) > 0.4).double().requires_grad_(), None
        )
        for g in net.gates
    )
    return Output(
        torch.zeros(4, 5), decisions, torch.full((4,), 0.7 * net.plain_macs, dtype=torch.float64)
    )


def rates(output: Output, kind: str) -> Tensor:
    return torch.cat(
        [d.z_BU.mean(0) for d in output.decisions if (d.gate.kind == "layer") == (kind == "layer")]
    )


@pytest.mark.parametrize(
    "loss", [name for name in TARGETED if LOSSES[name].takes in ("gates", "mean")]
)
def test_a_targeted_loss_is_weighted_and_named_after_its_gates(resnet: Build, loss: str) -> None:
    net = resnet(loss=loss, target=0.4, loss_weight=3.0)
    output = decided(net)
    terms = objective(net).losses(output, LABELS)
    m_G = rates(output, "layer")
    m = m_G if loss in EACH else m_G.mean()
    function = LOSSES[loss].function
    assert function is not None
    assert list(terms) == ["cross_entropy", f"{loss}_layer"]
    torch.testing.assert_close(terms[f"{loss}_layer"], 3 * function(m, 0.4))


def test_a_row_of_the_table_is_all_that_a_new_loss_needs(
    resnet: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = Loss(
        function=lambda m_G, t_G: (m_G - t_G).abs().sum(),
        takes="gates",
        start="l0_start",
        weight="kappa",
    )
    monkeypatch.setitem(LOSSES, "made_up", made_up)
    net = resnet(loss="made_up", target=0.4, kappa=3.0, l0_start=0.5)
    one, output = objective(net), decided(net)
    assert list(one.losses(output, LABELS)) == ["cross_entropy"]
    one.start_epoch(5)
    expected = 3 * (rates(output, "layer") - 0.4).abs().sum()
    torch.testing.assert_close(one.losses(output, LABELS)["made_up_layer"], expected)
    assert one.report() == {"target/layer": 0.4}


def test_joint_gates_have_a_target_and_a_term_each(resnet: Build) -> None:
    net = resnet(
        granularity="joint", target=0.3, target_channel=0.9, loss_weight=1.0, channel_count="raw"
    )
    output = decided(net)
    terms = objective(net).losses(output, LABELS)
    torch.testing.assert_close(terms["per_batch_layer"], (rates(output, "layer").mean() - 0.3) ** 2)
    torch.testing.assert_close(
        terms["per_batch_channel"], (rates(output, "channel").mean() - 0.9) ** 2
    )


def test_a_channel_in_a_skipped_block_counts_as_closed(resnet: Build) -> None:
    net = resnet(granularity="joint", loss="target_free", gamma_channel=0.2, lambda_layer=0.1)
    output = decided(net)
    layer = {d.gate.block: d.z_BU for d in output.decisions if d.gate.kind == "layer"}
    open_G = torch.cat(
        [(d.z_BU * layer[d.gate.block]).mean(0) for d in output.decisions if d.gate.kind == "inner"]
    )
    terms = objective(net).losses(output, LABELS)
    torch.testing.assert_close(terms["target_free_channel"], 0.2 * open_G.square().mean())
    torch.testing.assert_close(
        terms["target_free_layer"], 0.1 * rates(output, "layer").square().mean()
    )


def test_gates_can_count_by_the_macs_they_guard(resnet: Build) -> None:
    net = resnet(weighting="mac", target=0.2, loss_weight=1.0, shortcut="A")
    output = decided(net)
    macs = torch.tensor([gate.macs for gate in net.gates], dtype=torch.float64)
    m = (rates(output, "layer") * macs).sum() / macs.sum()
    torch.testing.assert_close(
        objective(net).losses(output, LABELS)["per_batch_layer"], (m - 0.2) ** 2
    )
    assert len(set(macs.tolist())) > 1


@pytest.mark.parametrize(("target", "quad", "hinge"), [(0.5, 0.04, 0.04), (0.9, 0.04, 0.0)])
def test_mac_losses_aim_at_a_fraction_of_the_baseline(
    resnet: Build, target: float, quad: float, hinge: float
) -> None:
    for loss, value in (("mac_quad", quad), ("mac_hinge", hinge)):
        net = resnet(loss=loss, target=target, loss_weight=10.0)
        terms = objective(net).losses(decided(net), LABELS)
        assert terms[loss].item() == pytest.approx(10 * value, abs=1e-6)


def test_no_loss_leaves_the_cross_entropy_alone(resnet: Build) -> None:
    net = resnet(loss="none")
    assert list(objective(net).losses(decided(net), LABELS)) == ["cross_entropy"]
    assert objective(net).settled
    assert objective(net).report() == {}


def test_all_gates_are_open_and_unpressed_while_warming_up(resnet: Build) -> None:
    net = resnet(open_warmup=0.3)
    one = objective(net)
    for epoch in range(10):
        one.start_epoch(epoch)
        warm = epoch < 3
        assert isinstance(one.policy(epoch * 4, torch.arange(4)), AlwaysOn if warm else Sampled)
        assert len(one.losses(decided(net), LABELS)) == (1 if warm else 2)
        assert one.settled is not warm


def test_the_temperature_falls_to_a_tenth_and_noise_ends_before_the_training(resnet: Build) -> None:
    net = resnet(temperature=5.0, temperature_schedule="exponential", noise_off=0.25)
    drawn = [objective(net).policy(step, torch.arange(4)) for step in range(40)]
    temperatures = [p.temperature for p in drawn if isinstance(p, Sampled)]
    assert temperatures[0] == 5.0
    assert temperatures[-1] == pytest.approx(0.1)
    assert temperatures[13] / temperatures[12] == pytest.approx(temperatures[30] / temperatures[29])
    assert [p.noisy for p in drawn if isinstance(p, Sampled)] == [True] * 30 + [False] * 10


def test_gates_are_drawn_anew_at_every_step_and_alike_for_the_same_seed(resnet: Build) -> None:
    net, ids = resnet(), torch.arange(30)
    first, again, later = (objective(net).policy(step, ids) for step in (0, 0, 1))
    assert isinstance(first, Sampled)
    assert isinstance(again, Sampled)
    assert isinstance(later, Sampled)
    assert torch.equal(first.noise_BT, again.noise_BT)
    assert not (first.noise_BT == later.noise_BT).any()
    assert first.noise_BT.shape == (30, net.total_units())


def test_a_stepping_target_is_reported_and_settles_when_it_arrives(resnet: Build) -> None:
    net = resnet(target_schedule="step", target=0.8, anneal_step=0.1, anneal_every=0.1)
    one, seen = objective(net), []
    for epoch in range(4):
        one.start_epoch(epoch)
        seen.append((one.report()["target/layer"], one.settled))
    assert seen == [(1.0, False), (0.9, False), (0.8, True), (0.8, True)]


def test_a_variable_target_follows_the_batches_without_a_gradient(resnet: Build) -> None:
    net = resnet(target_schedule="ema", ema_rho=0.75, target_start=0.8)
    one, output = objective(net), decided(net)
    m = rates(output, "layer").mean()
    assert one.losses(output, LABELS)["per_batch_layer"].item() == pytest.approx(
        2 * (m.item() - 0.8) ** 2
    )
    one.after_step(output)
    target = 0.75 * 0.8 + 0.25 * m.item()
    assert one.report()["target/layer"] == pytest.approx(target)
    loss = one.losses(output, LABELS)["per_batch_layer"]
    gradient = torch.autograd.grad(loss, output.decisions[0].z_BU)[0]
    expected = 2 * 2 * (m.item() - target) / (4 * len(net.gates))
    torch.testing.assert_close(gradient, torch.full_like(gradient, expected))


def test_bounds_hold_single_gates_and_then_let_go(resnet: Build) -> None:
    net = resnet(target_schedule="bounds", target=0.3, loss_weight=3.0)
    one, output = objective(net), decided(net)
    m_L = rates(output, "layer")
    bounds = one.losses(output, LABELS)["bounds_layer"]
    torch.testing.assert_close(bounds, 3 * sparsity.per_gate(m_L, 0.3))
    assert (one.settled, one.outlook) == (False, 1.0)
    one.start_epoch(2)
    held = math.cos(0.6 * math.pi / 2) ** 2
    expected = 3 * sparsity.bounds(m_L, torch.full_like(m_L, 0.3), held)
    torch.testing.assert_close(one.losses(output, LABELS)["bounds_layer"], expected)
    one.start_epoch(4)
    assert list(one.losses(output, LABELS)) == ["cross_entropy", "per_batch_layer"]
    assert one.settled


def test_bounds_are_on_the_mean_rate_of_a_gates_units_of_both_kinds_where_the_target_is_of_macs(
    resnet: Build,
) -> None:
    values = {
        "granularity": "joint",
        "target_schedule": "bounds",
        "target": 0.3,
        "loss_weight": 1.0,
    }
    net = resnet(loss="mac_quad", channel_count="raw", **values)
    output = decided(net)
    m_L = torch.stack([d.z_BU.mean() for d in output.decisions])
    terms = objective(net).losses(output, LABELS)
    assert list(terms) == ["cross_entropy", "mac_quad", "bounds_macs"]
    torch.testing.assert_close(terms["bounds_macs"], sparsity.per_gate(m_L, 0.3))
    both = objective(resnet(channel_count="raw", target_channel=0.9, **values)).losses(
        output, LABELS
    )
    channel = torch.stack([d.z_BU.mean() for d in output.decisions if d.gate.kind != "layer"])
    torch.testing.assert_close(both["bounds_channel"], sparsity.per_gate(channel, 0.9))


def test_l0_sets_in_late_and_costs_what_gates_expect_to_open(resnet: Build) -> None:
    net = resnet(loss="l0", l0_weight=2.0, l0_start=0.5)
    one = objective(net)
    decisions = tuple(
        Decision(g, torch.ones(4, g.units), torch.full((4, g.units), 0.1 + g.block))
        for g in net.gates
    )
    output = Output(torch.zeros(4, 5), decisions, torch.ones(4))
    seen = []
    for epoch in (0, 4, 5):
        one.start_epoch(epoch)
        seen.append((list(one.losses(output, LABELS)), one.settled, one.outlook))
    assert seen[:2] == [(["cross_entropy"], False, None)] * 2
    assert seen[2] == (["cross_entropy", "l0"], True, 1.0)
    mean = 0.1 + sum(gate.block for gate in net.gates) / len(net.gates)
    assert one.losses(output, LABELS)["l0"].item() == pytest.approx(2 * mean)
    assert one.report() == {}


def test_batch_shaping_and_then_l0_close_gates() -> None:
    torch.manual_seed(0)
    values = {
        "backbone": "resnet8",
        "width": 0.25,
        "loss": "l0",
        "l0_weight": 5.0,
        "batch_shaping": 1.0,
    }
    net = Candidate.of(family("gated_resnet"), values, 2).build(
        Task(channels=1, height=8, width=8, classes=2), 0
    )
    one = net.train().objective(Plan(epochs=2, steps=60))
    optimizer = torch.optim.Adam(net.gate_parameters(), lr=0.05)
    x, shares = torch.randn(64, 1, 8, 8), []
    for step in range(120):
        one.start_epoch(step // 60)
        output = net(x, one.policy(step, torch.arange(64)))
        terms = one.losses(output, torch.arange(64) % 2)
        assert (set(terms) == {"cross_entropy", "l0"}) == (step >= 60)
        optimizer.zero_grad()
        torch.stack(
            [term for name, term in terms.items() if name != "cross_entropy"]
        ).sum().backward()
        optimizer.step()
        shares.append(torch.cat([d.z_BU.detach().mean(0) for d in output.decisions]).mean().item())
    assert shares[59] == pytest.approx(0.6, abs=0.15), "the mean of the prior"
    assert shares[119] < 0.1


def test_label_smoothing_reaches_the_cross_entropy(resnet: Build) -> None:
    net = resnet(loss="none")
    output = Output(torch.tensor([[9.0, 0, 0, 0, 0]]).expand(4, -1), (), torch.zeros(4))
    sharp = objective(net).losses(output, LABELS * 0)["cross_entropy"]
    smooth = objective(net, Plan(epochs=1, steps=1, label_smoothing=0.1)).losses(output, LABELS * 0)
    assert smooth["cross_entropy"].item() - sharp.item() == pytest.approx(0.1 * 4 / 5 * 9, rel=1e-4)


@pytest.mark.parametrize("loss", ["lagrange", "utility"])
def test_a_multiplier_or_a_price_brings_compute_down(loss: str) -> None:
    torch.manual_seed(0)
    values = {
        "backbone": "resnet14",
        "width": 0.25,
        "loss": loss,
        "target": 0.5,
        "kappa": 10.0,
        "loss_weight": 5.0,
    }
    candidate = Candidate.of(family("gated_resnet"), values, 1)
    net = candidate.build(Task(channels=1, height=8, width=8, classes=2), 0).train()
    objective = net.objective(Plan(epochs=1, steps=120))
    optimizer = torch.optim.Adam(net.gate_parameters(), lr=0.05)
    x, y = torch.randn(64, 1, 8, 8), torch.arange(64) % 2
    multipliers = list[float]()
    for step in range(120):
        output = net(x, objective.policy(step, torch.arange(64)))
        terms = objective.losses(output, y)
        optimizer.zero_grad()
        terms[loss].backward() if terms[loss].requires_grad else None
        optimizer.step()
        objective.after_step(output)
        multipliers.append(objective.report().get("multiplier", 0.0))
        if step == 0:
            start = float(output.macs_B.detach().mean()) / net.plain_macs
    end = float(output.macs_B.detach().mean()) / net.plain_macs
    assert start > 0.8
    assert end < (0.6 if loss == "lagrange" else 0.4)
    if loss == "lagrange":
        assert max(multipliers) > 0
        again = net.objective(Plan(epochs=1, steps=120))
        again.load(objective.state() | {"multiplier": 0.7})
        assert again.report()["multiplier"] == 0.7


def test_batch_shaping_fades_and_asks_nothing_of_gates_that_read_no_image() -> None:
    task = Task(channels=1, height=8, width=8, classes=2)
    terms = {}
    for gate in ("dependent", "independent"):
        values = {
            "backbone": "resnet8",
            "width": 0.25,
            "batch_shaping": 1.0,
            "shaping_end": 0.5,
            "gate": gate,
        }
        net = Candidate.of(family("gated_resnet"), values, 1).build(task, 0).train()
        objective = net.objective(Plan(epochs=1, steps=100))
        for step in (0, 25, 50):
            output = net(torch.randn(16, 1, 8, 8), objective.policy(step, torch.arange(16)))
            terms[gate, step] = objective.losses(output, torch.zeros(16, dtype=torch.long)).get(
                "batch_shaping"
            )
    assert terms["dependent", 50] is None
    assert float(terms["dependent", 25].detach()) == pytest.approx(
        float(terms["dependent", 0].detach()) / 2, rel=0.3
    )
    assert all(terms["independent", step] is None for step in (0, 25, 50))
