"""Mixing, skipping and moving layers of transformers: what the family contract does not say.

Shapes: B images, N tokens, D width, L layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.contract.exit_rules import ExitRule
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import Plan
from spaces.contract.policies import AlwaysOn, Sampled, Threshold
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.families.shuffled_vit import ShuffledViTConfig
from spaces.gates.gated_blocks import mixed
from spaces.transformers.layer_mixing import Mixing, MixingConfig, dropout_rates, dropped
from spaces.transformers.layer_order import survival_rates, training_order
from spaces.transformers.routed_vit import RoutedViT

TASK = Task(channels=3, height=16, width=16, classes=5)
SMALL = {"layers": 4, "dim": 32, "head_dim": 16, "mlp_ratio": 1}
Draw = Callable[..., Tensor]


def vit(name: str, seed: int = 0, task: Task = TASK, **values: Any) -> RoutedViT:
    net = Candidate.of(family(name), SMALL | values, 4).build(task, seed)
    assert isinstance(net, RoutedViT)
    return net.double().eval()


# sizes as published


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


# mixing


def test_weights_sum_to_1_and_the_last_biased_start_is_nearly_the_baseline(images: Draw) -> None:
    net = vit("dense_vit", aggregator="wdc")
    for weights in net(images(6, TASK)).extra["mixing"]:
        torch.testing.assert_close(weights.sum(1), torch.ones(6))
        assert (weights[:, -1] > 0.8).all()
    plain = Candidate.of(family("dense_vit"), SMALL, 4).baseline().build(TASK, 0).double().eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    with torch.no_grad():
        for mixing in net.mixings:
            mixing.oracle.bias[-1] = 1e4
    torch.testing.assert_close(
        net(images(6, TASK)).logits_BC, plain(images(6, TASK)).logits_BC, rtol=1e-10, atol=1e-10
    )


def test_the_first_layer_reads_the_embedding_alone() -> None:
    assert len(vit("dense_vit").mixings) == SMALL["layers"] - 1


def test_dropout_of_dense_weights_rises_quadratically_from_0() -> None:
    rates = dropout_rates("quadratic", 0.25, 10)
    published = [0.0, 0.0031, 0.0123, 0.0278, 0.0494, 0.0772, 0.1111, 0.1512, 0.1975, 0.25]
    assert rates == pytest.approx(published, abs=5e-5)
    assert dropout_rates("linear", 0.2, 3) == pytest.approx([0.0, 0.1, 0.2])
    assert dropout_rates("const", 0.2, 3) == [0.0, 0.2, 0.2]


def test_dropped_weights_have_the_right_mean_and_are_never_all_gone() -> None:
    torch.manual_seed(0)
    w = torch.tensor([0.5, 0.3, 0.2]).expand(40_000, 3)
    kept = dropped(w, 0.25, renormalize=False)
    assert (
        kept.mean(0) - w[0]
    ).abs().max() < 0.02  # the largest stays where all would go: 0.25^3 of the time
    assert (dropped(w, 0.9, renormalize=False).sum(1) > 0).all()
    torch.testing.assert_close(dropped(w, 0.5, renormalize=True).sum(1), torch.ones(40_000))


def test_weights_are_dropped_in_training_only() -> None:
    mixing = Mixing(MixingConfig(aggregator="wsdc"), 8, 3, 0.5).double()
    sources = [torch.randn(64, 2, 8, dtype=torch.float64) for _ in range(3)]
    assert torch.equal(mixing.eval()(sources)[1], mixing.eval()(sources)[1])
    assert not torch.equal(mixing.train()(sources)[1], mixing.eval()(sources)[1])


# skipping


def test_an_oracle_reads_the_class_token_before_it_and_the_scores_so_far() -> None:
    net = vit("skip_vit", dt_always="first")
    assert [net.oracles[f"{i}"].head.in_features for i in (1, 2, 3)] == [32 + 1, 32 + 2, 32 + 3]
    parameters = sum(p.numel() for p in net.gate_parameters())
    assert parameters == sum(32 + j + 1 for j in (1, 2, 3))
    assert (
        sum(
            p.numel()
            for p in vit("skip_vit", dt_history="none", dt_always="first").gate_parameters()
        )
        == 3 * 33
    )


def test_the_history_starts_with_the_layer_that_always_runs(
    images: Draw, scramble: Callable[..., Any]
) -> None:
    net = scramble(vit("skip_vit", dt_always="first"))
    with torch.no_grad():
        # only the history is left: the first layer's score of 1
        net.oracles["1"].head.weight[:, :32] = 0
        net.oracles["1"].head.weight[:, 32] = 2.5
        net.oracles["1"].head.bias.fill_(0.25)
    logit = net(images(3, TASK), Threshold()).extra["oracle_logits"][0]
    torch.testing.assert_close(logit, torch.full((3, 1), 2.75, dtype=torch.float64))


def test_a_score_of_exactly_a_half_runs_the_layer(images: Draw) -> None:
    net = vit("skip_vit")
    with torch.no_grad():
        for p in net.gate_parameters():
            p.zero_()
    assert all(d.open_BU.all() for d in net(images(3, TASK), Threshold()).decisions)
    assert not any(d.open_BU.any() for d in net(images(3, TASK), Threshold(tau=0.5001)).decisions)


def _oracle_gradients(images: Draw, **values: Any) -> list[Tensor | None]:
    net = vit("skip_vit", **values).train()
    objective = net.objective(Plan(epochs=4, steps=4))
    output = net(images(8, TASK), objective.policy(3, torch.arange(8)))
    F.cross_entropy(output.logits_BC, torch.arange(8) % 5).backward()
    return [p.grad for p in net.gate_parameters()]


def test_cross_entropy_teaches_straight_through_and_scaling_oracles_but_not_literal_ones(
    images: Draw,
) -> None:
    literal = _oracle_gradients(images, dt_grad="literal", loss="score_sq")
    assert all(g is None or not g.any() for g in literal)
    for grad in ("st", "soft_scale"):
        assert all(
            g is not None and bool(g.any())
            for g in _oracle_gradients(images, dt_grad=grad, loss="score_sq")
        )


def test_the_loss_on_logits_rests_at_0_and_the_one_on_scores_always_presses() -> None:
    for name, at_zero in (("logit_sq", 0.0), ("score_sq", 0.25)):
        net = vit("skip_vit", loss=name, skip_weight=1.0)
        with torch.no_grad():
            for p in net.gate_parameters():
                p.zero_()
        net.train()
        objective = net.objective(Plan(epochs=1, steps=1))
        output = net(
            torch.randn(4, 3, 16, 16, dtype=torch.float64), objective.policy(0, torch.arange(4))
        )
        term = objective.losses(output, torch.zeros(4, dtype=torch.long))[name]
        assert float(term.detach()) == pytest.approx(at_zero)
        gradients = torch.autograd.grad(term, [oracle.head.bias for oracle in net.oracles.values()])
        assert all((float(g) == 0) == (name == "logit_sq") for g in gradients)


def test_the_exact_form_has_the_textbooks_gradient_and_no_rounding() -> None:
    torch.manual_seed(1)
    skip, run = (torch.randn(64, 9, 32, requires_grad=True) for _ in range(2))
    z = (torch.rand(64, 1, 1) < 0.5).float().requires_grad_()
    ours = mixed(skip, run, z)
    textbook = skip + z * (run - skip)
    assert torch.equal(ours, torch.where(z > 0, run, skip))
    assert not torch.equal(textbook, torch.where(z > 0, run, skip)), (
        "if this were exact the other form were not needed"
    )
    weights = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), (skip, run, z), retain_graph=True),
        torch.autograd.grad((textbook * weights).sum(), (skip, run, z)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_skipped_layers_hand_on_their_mixture(images: Draw) -> None:
    net = vit("skip_vit", aggregator="wdc", agg_init="uniform", dt_always="none")
    closed = Threshold(fixed={gate.name: (0.0,) for gate in net.gates})
    u = net.stem(images(3, TASK))
    expected = [u, u]
    for mixing in net.mixings:
        expected.append(mixing(expected)[0])
    torch.testing.assert_close(net(images(3, TASK), closed).logits_BC, net.head(expected[-1]))


# order


def test_identity_order_is_the_baseline_to_the_bit_and_another_order_is_not(images: Draw) -> None:
    net = vit("shuffled_vit")
    x = images(4, TASK)
    assert torch.equal(net(x, AlwaysOn(order=(0, 1, 2, 3))).logits_BC, net(x, AlwaysOn()).logits_BC)
    assert not torch.allclose(
        net(x, AlwaysOn(order=(3, 1, 2, 0))).logits_BC, net(x, AlwaysOn()).logits_BC
    )


def test_layers_run_in_the_order_asked_for(images: Draw) -> None:
    net, ran = vit("shuffled_vit"), list[int]()
    for index, layer in enumerate(net.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    output = net(images(2, TASK), AlwaysOn(order=(2, 0, 3)))
    assert ran == [2, 0, 3]
    assert output.macs_B.tolist() == [net.plain_macs - net.layer_macs] * 2


def test_training_orders_are_permutations_drawn_anew_and_again_the_same() -> None:
    config = ShuffledViTConfig(layers=6)
    orders = [training_order(config, 6, seed=1, step=s) for s in range(200)]
    assert orders == [training_order(config, 6, seed=1, step=s) for s in range(200)]
    assert len(set(orders)) > 150
    assert all(order is None or sorted(order) == list(range(6)) for order in orders)
    first = [order[0] if order else 0 for order in orders]
    assert all(20 < first.count(layer) < 50 for layer in range(6)), (
        "every layer comes first about as often"
    )


def test_a_window_limits_how_far_a_layer_moves() -> None:
    config = ShuffledViTConfig(layers=8, order_train="window", window=2)
    moved = 0
    for step in range(300):
        order = training_order(config, 8, seed=0, step=step) or tuple(range(8))
        distances = [abs(place - layer) for place, layer in enumerate(order)]
        assert max(distances) <= 2
        moved += max(distances) > 0
    assert moved > 250


def test_partial_shuffling_shuffles_that_share_of_batches() -> None:
    config = ShuffledViTConfig(layers=6, shuffle_prob=0.25)
    shuffled = sum(training_order(config, 6, seed=0, step=s) is not None for s in range(2000))
    assert 400 < shuffled < 600


def test_layerdrop_leaves_out_that_share_of_layers() -> None:
    config = ShuffledViTConfig(layers=6, order_train="identity", layerdrop=0.2)
    kept = [training_order(config, 6, seed=0, step=s) or tuple(range(6)) for s in range(1000)]
    assert all(list(order) == sorted(order) for order in kept)
    assert 0.78 < sum(map(len, kept)) / 6000 < 0.82


def test_stochastic_depth_drops_in_training_and_scales_at_inference(images: Draw) -> None:
    assert survival_rates(0.5, 4) == pytest.approx((0.875, 0.75, 0.625, 0.5))
    net = vit("shuffled_vit", stochastic_depth=0.5, order_train="identity")
    x = images(4, TASK)
    assert torch.equal(net(x).logits_BC, net(x).logits_BC)
    u = net.stem(x)
    for layer, rate in zip(net.layers, survival_rates(0.5, 4), strict=True):
        u = u + rate * (layer(u) - u)
    torch.testing.assert_close(net(x).logits_BC, net.head(u))
    policy = net.train().objective(Plan(epochs=1, steps=1)).policy(0, torch.arange(4000))
    assert policy.survival is not None
    assert policy.survival.mean(0).tolist() == pytest.approx(survival_rates(0.5, 4), abs=0.04)


def test_places_are_told_by_one_table_or_one_a_layer() -> None:
    shared = vit("shuffled_vit", ls_variant="position", pos_dim=32)
    own = vit("shuffled_vit", ls_variant="position", pos_dim=32, pos_shared=False)
    tables = [name for name, _ in shared.named_parameters() if "table" in name]
    assert len(tables) == 1
    assert dict(shared.named_parameters())[tables[0]].numel() == SMALL["layers"] * 32
    assert len([name for name, _ in own.named_parameters() if "table" in name]) == SMALL["layers"]


def test_the_place_that_is_told_is_the_step_and_not_the_layer(images: Draw) -> None:
    net = vit("shuffled_vit", ls_variant="position", pos_dim=8)
    told = list[tuple[int, int]]()
    for index, place in enumerate(net.places):
        place.register_forward_pre_hook(lambda _, args, index=index: told.append((index, args[1])))
    net(images(2, TASK), AlwaysOn(order=(3, 0, 2)))
    assert told == [(3, 0), (0, 1), (2, 2)]


def test_guessing_places_by_chance_loses_the_logarithm_of_their_number(images: Draw) -> None:
    net = vit("shuffled_vit", ls_variant="predict", pred_weight=1.0)
    with torch.no_grad():
        for head in net.place_heads:
            head.fc.weight.zero_()
            head.fc.bias.zero_()
    net.train()
    objective = net.objective(Plan(epochs=1, steps=9))
    terms = objective.losses(
        net(images(4, TASK), objective.policy(5, torch.arange(4))), torch.zeros(4, dtype=torch.long)
    )
    assert float(terms["places"].detach()) == pytest.approx(float(torch.log(torch.tensor(4.0))))
    assert "places" not in net.eval()(images(4, TASK)).extra


def test_arbitrary_orders_are_the_same_for_equal_seed_and_step(images: Draw) -> None:
    net, x = vit("shuffled_vit"), images(3, TASK)
    knobs = Knobs(order="arbitrary")
    one, again, other = (net.run(x, knobs, seed=4, step=step).logits_BC for step in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_fewer_layers_and_another_order_combine(images: Draw) -> None:
    net, x = vit("shuffled_vit"), images(3, TASK)
    ran = list[int]()
    for index, layer in enumerate(net.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    net.run(x, Knobs(order="arbitrary", keep=(1, 3)), seed=1, step=1)
    assert sorted(ran) == [1, 3]


# combinations


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


# found by review


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
    shipped = deploy(net, Knobs(), rates)
    assert shipped.gate_counts()["dynamic"] == len(net.gates)
    pixels = images(64, TASK)
    torch.testing.assert_close(shipped.double()(pixels), net.run(pixels, Knobs()).logits_BC)
    history_free = scramble(vit("skip_vit", dt_history="none"))
    assert deploy(history_free, Knobs(), rates).gate_counts()["dynamic"] == 0
