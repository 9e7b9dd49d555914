"""Exits, padding, compilation and combinations of layers that are mixed, skipped and moved.

Shapes: B images, N tokens, D width, L layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from spaces.contract.exit_rules import ExitRule
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import Plan
from spaces.contract.policies import AlwaysOn, Sampled
from spaces.contract.registry import family
from spaces.contract.task import Task
from tests.spaces.transformers.vits import TASK, Draw, vit


def test_macs_and_parameters_of_the_published_transformer() -> None:
    task = Task(channels=3, height=32, width=32, classes=100)
    size = {"dim": 384, "head_dim": 32, "mlp_ratio": 1, "patch": 4}
    with torch.device("meta"):
        found = {}
        for layers in (10, 16):
            candidate = Candidate.of(family("skip_vit"), size | {"layers": layers}, 1)
            net = candidate.family.build(candidate.config, task)
            found[layers] = (net.plain_macs, net.layer_macs)
    assert found[10] == (608_744_448, 60_752_640)
    assert found[16] == (973_260_288, 60_752_640)


def test_an_exit_belongs_to_the_place_and_not_to_the_layer(images: Draw) -> None:
    net = vit("shuffled_vit", exits="cls")
    everybody = ExitRule(thresholds=(-1.0, 1.0, 1.0))
    ran = list[int]()
    for index, layer in enumerate(net.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    net(images(2, TASK), AlwaysOn(order=(3, 2, 1, 0), exits=everybody), compact=True)
    assert ran == [3], "the first exit stands behind the first place, whichever layer ran there"


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        (
            "skip_vit",
            {"dt_grad": "literal", "loss": "per_batch"},
            "^dt_grad: literal oracles learn from their own scores",
        ),
        ("shuffled_vit", {"aggregator": "wdc"}, "^aggregator: wdc weighs layers by their place"),
        (
            "shuffled_vit",
            {"oracle": "dt", "dt_history": "soft"},
            "^dt_history: soft depends on the order",
        ),
        (
            "skip_vit",
            {"patch": 16, "task": Task(channels=1, height=8, width=8, classes=2)},
            "^patch: 16 pixels do not fit",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused_with_the_reason(
    name: str, values: dict[str, Any], reason: str
) -> None:
    values = dict(values)
    task = values.pop("task", TASK)
    with pytest.raises(ValueError, match=reason) as found:
        vit(name, task=task, **values)
    assert "\n" not in str(found.value)


def test_an_image_that_patches_do_not_fill_is_padded() -> None:
    task = Task(channels=1, height=10, width=9, classes=3)
    net = vit("dense_vit", task=task, patch=4)
    assert net.tokens == 3 * 3 + 1
    assert net(torch.randn(2, 1, 10, 9, dtype=torch.float64)).logits_BC.shape == (2, 3)


@pytest.mark.parametrize("name", ["dense_vit", "skip_vit", "shuffled_vit"])
def test_a_training_step_compiles_to_one_graph(name: str) -> None:
    net = vit(name).float().train()
    policy = net.objective(Plan(epochs=4, steps=3)).policy(0, torch.arange(4))
    if isinstance(policy, Sampled):
        _ = policy.noise_BT
    images = torch.randn(4, 3, 16, 16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")(
            images, policy
        ).logits_BC
    torch.manual_seed(0)
    torch.testing.assert_close(whole, net(images, policy).logits_BC)


@pytest.mark.parametrize("decision", ["confidence", "gate"])
def test_layers_left_out_may_leave_out_every_exit(images: Draw, decision: str) -> None:
    net = vit(
        "shuffled_vit", exits="cls", exit_decision=decision, layerdrop=0.5, oracle="cls"
    ).train()
    objective = net.objective(Plan(epochs=1, steps=100))
    short = 0
    for step in range(60, 90):
        policy = objective.policy(step, torch.arange(8))
        output = net(images(8, TASK), policy)
        short += output.exits is None
        loss = torch.stack(
            [t.float() for t in objective.losses(output, torch.arange(8) % 5).values()]
        ).sum()
        assert torch.isfinite(loss)
    assert short > 0, "no order was too short to reach an exit: nothing was tested"


def test_a_left_out_layers_gate_is_not_a_closed_gate(images: Draw) -> None:
    net = vit(
        "shuffled_vit",
        oracle="cls",
        dt_always="none",
        layerdrop=0.5,
        order_train="identity",
        bias_init=4.0,
    )
    objective = net.train().objective(Plan(epochs=1, steps=40))
    rates = []
    for step in range(40):
        output = net(images(64, TASK), objective.policy(step, torch.arange(64)))
        objective.losses(output, torch.zeros(64, dtype=torch.long))
        group = objective.inner.groups[0]  # type: ignore[attr-defined]
        rates.append(1.0 if group.activation is None else float(group.activation))
    assert min(rates) > 0.9


@pytest.mark.parametrize("grad", ["literal", "soft_scale"])
def test_exit_gates_learn_whatever_teaches_the_oracles(images: Draw, grad: str) -> None:
    net = vit("skip_vit", exits="cls", exit_decision="gate", dt_grad=grad, loss="score_sq").train()
    objective = net.objective(Plan(epochs=4, steps=4))
    output = net(images(32, TASK), objective.policy(9, torch.arange(32)))
    terms = objective.losses(output, torch.arange(32) % 5)
    torch.stack([t.float() for t in terms.values()]).sum().backward()
    assert all(
        p.grad is not None and bool(p.grad.any())
        for p in [net.exit_gates[0].fc.weight, net.exit_gates[0].fc.bias]
    )


def test_scaling_oracles_hear_of_their_target(images: Draw) -> None:
    net = vit("skip_vit", dt_grad="soft_scale", loss="per_batch", target=0.3).train()
    objective = net.objective(Plan(epochs=4, steps=4))
    output = net(images(32, TASK), objective.policy(9, torch.arange(32)))
    objective.losses(output, torch.arange(32) % 5)["per_batch_layer"].backward()
    assert all(bool(oracle.head.bias.grad.any()) for oracle in net.oracles.values())


def test_fewer_layers_than_exits_still_answer(images: Draw) -> None:
    net = vit("shuffled_vit", exits="cls")
    knobs = Knobs(
        policy="always_on",
        exit_rule="maxprob",
        exit_thresholds=(0.99,) * 3,
        fallback="ensemble",
        keep=(0, 1),
    )
    for compact in (False, True):
        output = net.run(images(4, TASK), knobs, compact=compact)
        assert output.logits_BC.shape == (4, 5)
        assert output.exits is not None
        assert set(output.exits.index_B.tolist()) <= {0, 1, 3, 4}
    with pytest.raises(
        ValueError, match=r"^keep: \[9\] is not possible, this network has layers 0 to 3$"
    ):
        net.run(images(4, TASK), Knobs(keep=(9,)))
    with pytest.raises(ValueError, match="no layer that can be left out"):
        vit("dense_vit").run(images(4, TASK), Knobs(keep=(0,)))


def test_a_network_whose_oracles_read_scores_is_shipped_with_its_oracles(
    images: Draw, scramble: Callable[..., Any]
) -> None:
    from spaces.deploy.generic import deploy

    net = scramble(vit("skip_vit"))
    rates = {gate.name: (1.0,) for gate in net.gates}
    shipped = deploy(net, [(Knobs(), rates)])
    assert shipped.gate_counts()["dynamic"] == len(net.gates)
    pixels = images(64, TASK)
    torch.testing.assert_close(shipped.double()(pixels), net.run(pixels, Knobs()).logits_BC)
    history_free = scramble(vit("skip_vit", dt_history="none"))
    assert deploy(history_free, [(Knobs(), rates)]).gate_counts()["dynamic"] == 0


def test_positions_of_images_of_another_size_are_resampled_and_the_class_token_keeps_its_own() -> (
    None
):
    values = {"layers": 2, "dim": 32, "patch": 4, "gated": False}
    one = Candidate.of(family("skip_vit"), values, 1)
    small, large = (
        one.build(Task(channels=3, height=side, width=side, classes=3), 0) for side in (16, 24)
    )
    ramp = torch.arange(6.0).repeat_interleave(6)[None, :, None].expand(1, 36, 32)
    state = large.state_dict() | {"positions": torch.cat([torch.full((1, 1, 32), 9.0), ramp], 1)}
    found = small.plain_state(state)["positions"]
    assert found.shape == (1, 17, 32)
    assert torch.equal(found[:, 0], torch.full((1, 32), 9.0))
    rows = found[0, 1:, 0].reshape(4, 4)
    assert torch.allclose(rows, rows[:, :1].expand(4, 4), atol=1e-4)
    assert bool((rows[1:, 0] > rows[:-1, 0]).all())
    assert large.plain_state(state)["positions"] is state["positions"]
