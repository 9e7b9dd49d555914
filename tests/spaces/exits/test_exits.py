"""Early exits: who leaves where, at what cost, and what teaches the exits.

Shapes: B images, C classes, D features, K early exits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.contract.exit_places import Place
from spaces.contract.exit_rules import ExitRule, agreement, certainty, judged, margin
from spaces.contract.knobs import Knobs
from spaces.contract.net import Exits, Output, Plan
from spaces.contract.policies import AlwaysOn, Sampled, Threshold
from spaces.contract.space import dimensions, narrowed
from spaces.contract.task import Task
from spaces.exits.exit_heads import Attention, ScanHead
from spaces.exits.exit_objective import distillation, feature_distance
from spaces.families.multi_exit import MultiExitConfig, MultiExitNet

TASK = Task(channels=3, height=16, width=16, classes=5)
K = 3
JUDGES = ((0.7, -1.2, 2.0, 0.5, -0.8),) * (K + 1)
RULES = ("maxprob", "entropy", "margin", "patience", "judge")


@pytest.fixture
def net(scramble: Callable[..., Any]) -> Callable[..., MultiExitNet]:
    """A scrambled ResNet-18 of an eighth of the width, with three exits; keywords are those of its config."""

    def build(**overrides: Any) -> MultiExitNet:
        with torch.random.fork_rng():
            torch.manual_seed(2)
            return scramble(MultiExitNet(MultiExitConfig(width=0.125, **overrides), TASK))

    return build


def every(net: MultiExitNet, x: Tensor) -> Exits:
    """The answers and costs of all exits for all images."""
    with torch.no_grad():
        exits = net(x, AlwaysOn(exits=ExitRule(every=True))).exits
    assert exits is not None
    return exits


def ran(
    net: MultiExitNet, x: Tensor, rule: ExitRule, *, compact: bool = False
) -> tuple[Output, Tensor]:
    """The output under the rule, and which exit answered each image."""
    with torch.no_grad():
        output = net(x, AlwaysOn(exits=rule), compact=compact)
    assert output.exits is not None
    return output, output.exits.index_B


def dividing(kind: str, exits: Exits, fallback: str) -> ExitRule:
    """A rule of this kind with thresholds at which about half of the images leave."""
    whole = ExitRule(rule=kind, judges=JUDGES)
    halves = [
        whole.confidence(k, exits.logits).double().quantile(0.4 + 0.05 * k).item()
        for k in range(K + 1)
    ]
    if kind == "patience":  # answered alike twice in a row
        halves = [0.5, 0.4, 0.3, 0.2]
    return ExitRule(rule=kind, thresholds=tuple(halves), fallback=fallback, judges=JUDGES)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("fallback", ["deepest", "ensemble"])
@pytest.mark.parametrize("compact", [False, True])
def test_thresholds_of_1_send_every_image_to_the_fallback(
    net: Callable[..., MultiExitNet],
    images: Callable[..., Tensor],
    kind: str,
    fallback: str,
    compact: bool,
) -> None:
    made, x = net(), images(8)
    with torch.no_grad():
        made.exit_heads[0].fc.weight *= 1e4  # sure to the last bit: not above 1 either
    logits = every(made, x).logits
    rule = ExitRule(rule=kind, thresholds=(1.0,) * (K + 1), fallback=fallback, judges=JUDGES)
    output, index_B = ran(made, x, rule, compact=compact)
    expected = logits[-1] if fallback == "deepest" else torch.stack(logits).mean(0)
    assert torch.equal(output.logits_BC, expected)
    assert index_B.tolist() == [K if fallback == "deepest" else K + 1] * 8
    assert rule.confidence(0, logits).max() <= 1
    if fallback == "deepest":
        assert torch.equal(output.logits_BC, made(x).logits_BC)
    else:
        torch.testing.assert_close(output.logits_BC, sum(reversed(logits)) / (K + 1))


@pytest.mark.parametrize("compact", [False, True])
def test_thresholds_below_0_let_every_image_leave_at_the_first_exit(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor], compact: bool
) -> None:
    made, x = net(), images(8)
    exits = every(made, x)
    output, index_B = ran(
        made, x, ExitRule(thresholds=(-0.1,) * K, fallback="ensemble"), compact=compact
    )
    assert index_B.tolist() == [0] * 8
    assert torch.equal(output.logits_BC, exits.logits[0])
    assert torch.equal(output.macs_B, exits.macs[0])


def test_raising_any_threshold_never_lowers_the_cost_of_an_image(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made, x = net(), images(12)
    generator = torch.Generator().manual_seed(0)
    risen = 0
    for _ in range(12):
        low = 0.3 + 0.7 * torch.rand(K, generator=generator)
        before, _ = ran(made, x, ExitRule(thresholds=tuple(low.tolist())), compact=True)
        for exit in range(K):
            high = low.clone()
            high[exit] += 0.2
            after, _ = ran(made, x, ExitRule(thresholds=tuple(high.tolist())), compact=True)
            assert (after.macs_B >= before.macs_B).all()
            risen += int((after.macs_B > before.macs_B).any())
    assert risen > 5


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("fallback", ["deepest", "ensemble"])
def test_a_cascade_answers_as_choosing_among_the_answers_of_all_exits(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor], kind: str, fallback: str
) -> None:
    made, x = net(), images(64)
    with torch.no_grad():  # answers that depend on the image, so that exits agree on some
        for fc, logits in zip(
            [*(head.fc for head in made.exit_heads), made.fc], every(made, x).logits, strict=True
        ):
            fc.bias -= logits.mean(0)
    exits = every(made, x)
    rule = dividing(kind, exits, fallback)
    answers = [*exits.logits, torch.stack(exits.logits).mean(0)]
    costs = [*exits.macs, exits.macs[-1]]
    index = torch.full((64,), K + 1 if fallback == "ensemble" else K)
    for exit in reversed(range(K + 1 if fallback == "ensemble" else K)):
        index[rule.leaves(exit, exits.logits)] = exit
    rows = torch.arange(64)
    for compact in (False, True):
        output, index_B = ran(made, x, rule, compact=compact)
        assert index_B.tolist() == index.tolist()
        torch.testing.assert_close(
            output.logits_BC, torch.stack(answers)[index, rows], rtol=1e-10, atol=1e-10
        )
        assert torch.equal(output.macs_B, torch.stack(costs)[index, rows])
    assert len(index.unique()) >= 3


def test_an_image_that_leaves_pays_the_trunk_so_far_and_all_exits_it_passed(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made = net()
    macs = every(made, images(2)).macs
    paid, heads = made.stem_macs, []
    for index, head in enumerate(made.exit_heads):
        heads.append(int(head.own_macs))
        paid += made.section_macs[index] + heads[-1]
        assert macs[index].tolist() == [paid] * 2
    assert macs[-1].tolist() == [made.plain_macs + sum(heads)] * 2


@pytest.mark.parametrize("kind", ["full", "depthwise", "reduced"])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1), (2, 3)])
def test_attention_lies_between_0_and_1_in_the_shape_of_its_input(
    kind: str, size: tuple[int, int]
) -> None:
    attention = Attention(kind, Place(0, 12, *size)).double().eval()
    u = 3 * torch.randn(4, 12, *size, dtype=torch.float64)
    found = attention(u)
    assert found.shape == u.shape
    assert found.min() > 0
    assert found.max() < 1
    assert found.std() > 0


def test_an_exit_reads_its_input_times_the_attention() -> None:
    head = ScanHead(MultiExitConfig(), Place(0, 12, 8, 8), 32, 5).double().eval()
    u = torch.randn(4, 12, 8, 8, dtype=torch.float64)
    attention = head.attention
    assert attention is not None
    attended, logits = u * attention(u), head(u)[0]
    head.attention = None
    assert torch.equal(head(attended)[0], logits)
    assert not torch.equal(head(u)[0], logits)


def test_the_trunk_knows_nothing_of_attention(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made, x = net(), images(4)
    rule = AlwaysOn(exits=ExitRule(every=True))
    before = made(x, rule)
    assert before.exits is not None
    before.exits.logits[-1].sum().backward()
    assert all(p.grad is None for p in made.exit_heads.parameters())
    with torch.no_grad():
        for head in made.exit_heads:
            for parameter in head.attention.parameters():
                parameter.normal_()
    after = made(x, rule)
    assert torch.equal(after.logits_BC, before.logits_BC)
    assert after.exits is not None
    assert not torch.equal(after.exits.logits[0], before.exits.logits[0])


def test_detached_exits_learn_without_changing_the_trunk(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    for detached in (False, True):
        made = net(detach_trunk=detached)
        exits = made(images(4), AlwaysOn(exits=ExitRule(every=True))).exits
        assert exits is not None
        sum(one.sum() for one in exits.logits[:-1]).backward()
        assert (made.stem[0].weight.grad is None) == detached
        assert all(head.fc.weight.grad is not None for head in made.exit_heads)


def test_distillation_is_the_softened_cross_entropy_by_hand() -> None:
    student = torch.zeros(1, 2)
    assert distillation(student, torch.tensor([[0.0, math.log(3)]]), 1.0).item() == pytest.approx(
        math.log(2)
    )
    assert distillation(
        student, torch.tensor([[0.0, 2 * math.log(3)]]), 2.0
    ).item() == pytest.approx(4 * math.log(2))
    uneven = torch.tensor([[0.0, math.log(3)]])  # cross-entropy of (1/2, 1/2) with (1/4, 3/4)
    expected = -0.5 * math.log(0.25) - 0.5 * math.log(0.75)
    assert distillation(uneven, torch.zeros(1, 2), 1.0).item() == pytest.approx(expected)


def test_a_student_that_equals_its_teacher_pays_the_teachers_entropy_and_moves_nowhere() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    loss = distillation(logits, logits, 3.0)
    p = (logits / 3).softmax(1)
    torch.testing.assert_close(loss, 9 * -(p * p.log()).sum(1).mean())
    loss.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


def test_feature_distance_vanishes_for_equals_and_its_mean_ignores_the_batch_size() -> None:
    one, other = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    assert feature_distance(one, one, "batch_mean") == 0
    assert feature_distance(torch.zeros(2, 3), torch.full((2, 3), 2.0), "batch_mean").item() == 12
    assert feature_distance(torch.zeros(2, 3), torch.full((2, 3), 2.0), "code_sum").item() == 24
    twice = (torch.cat([one, one]), torch.cat([other, other]))
    mean, total = (feature_distance(one, other, form) for form in ("batch_mean", "code_sum"))
    torch.testing.assert_close(feature_distance(*twice, "batch_mean"), mean)
    torch.testing.assert_close(feature_distance(*twice, "code_sum"), 2 * total)
    student, teacher = one.requires_grad_(), other.requires_grad_()
    feature_distance(student, teacher, "batch_mean").backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("teacher", ["deepest", "ensemble"])
def test_what_exits_learn_from_a_teacher_teaches_the_teacher_nothing(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor], teacher: str
) -> None:
    made = net(teacher=teacher, detach_trunk=True)
    objective = made.objective(Plan(epochs=1, steps=1))
    output = made(images(4), objective.policy(0, torch.arange(4)))
    terms = objective.losses(output, torch.arange(4))
    (terms["distillation"] + terms["features"] + terms["exits"]).backward()
    teaching = {name for name, p in made.named_parameters() if p.grad is not None}
    assert teaching == {f"exit_heads.{name}" for name, _ in made.exit_heads.named_parameters()}


def test_the_losses_of_exits_are_weighted_as_configured(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made = net(alpha_kd=0.3, kd_temperature=2.0, feature_weight=1e-3)
    labels = torch.tensor([0, 1, 2, 3])
    objective = made.objective(Plan(epochs=1, steps=1, label_smoothing=0.1))
    output = made(images(4), objective.policy(0, torch.arange(4)))
    terms = objective.losses(output, labels)
    assert output.exits is not None
    logits = [one.float() for one in output.exits.logits]
    hard = [F.cross_entropy(one, labels, label_smoothing=0.1) for one in logits]
    soft = [distillation(one, logits[-1], 2.0) for one in logits[:-1]]
    features = [one.float() for one in output.exits.features]
    assert len(features) == K + 1
    distances = [(one - features[-1]).square().sum() / 4 for one in features[:-1]]
    torch.testing.assert_close(terms["cross_entropy"], hard[-1])
    torch.testing.assert_close(terms["exits"], 0.7 * sum(hard[:-1]))
    torch.testing.assert_close(terms["distillation"], 0.3 * sum(soft))
    torch.testing.assert_close(terms["features"], 1e-3 * sum(distances))


def test_without_distillation_exits_learn_from_labels_alone(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made = net(alpha_kd=0.0, exits="light")
    objective = made.objective(Plan(epochs=1, steps=1))
    terms = objective.losses(made(images(4), objective.policy(0, torch.arange(4))), torch.arange(4))
    assert set(terms) == {"cross_entropy", "exits"}


def test_exit_gates_are_drawn_in_training_though_no_other_gate_is(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor]
) -> None:
    made = net(exits="light", exit_decision="gate")
    policy = made.objective(Plan(epochs=1, steps=1, seed=5)).policy(7, torch.arange(16))
    assert isinstance(policy, Sampled)
    assert (policy.seed, policy.step, policy.units) == (5, 7, K)
    output = made(images(16), policy)
    assert [d.gate.name for d in output.decisions] == [f"exit{k}.stay" for k in range(K)]
    assert 0 < sum(float(d.z_BU.detach().sum()) for d in output.decisions) < 16 * K
    confident = net().objective(Plan(epochs=1, steps=1)).policy(0, torch.arange(2))
    assert isinstance(confident, AlwaysOn)


@pytest.mark.parametrize(
    "fixed", [{}, {"exit0.stay": (1.0,)}, {"exit1.stay": (1.0,)}, {"exit0.stay": (0.0,)}]
)
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_gated_exits_keep_their_numbers_however_they_are_run(
    net: Callable[..., MultiExitNet],
    images: Callable[..., Tensor],
    fixed: dict[str, tuple[float | None, ...]],
    tau: float,
) -> None:
    made, x = net(exits="light", exit_decision="gate"), images(16)
    found = []
    for compact in (False, True):
        output = made(x, Threshold(tau=tau, fixed=fixed), compact=compact)
        stay_KB = torch.stack([d.open_BU[:, 0].expand(16) for d in output.decisions])
        assert output.exits is not None
        assert output.exits.index_B.tolist() == stay_KB.long().cumprod(0).sum(0).tolist()
        found.append(output.exits.index_B)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("which", "units"),
    [
        ("all", [0, 1, 2]),
        ("early", [0, 1]),
        ("late", [1, 2]),
        ("1", [1]),
        ("0+2", [0, 2]),
        ("2+0+2", [0, 2]),
    ],
)
def test_exits_stand_where_they_were_asked_for(
    net: Callable[..., MultiExitNet], images: Callable[..., Tensor], which: str, units: list[int]
) -> None:
    made = net(exit_places=which, exits="light")
    assert made.exit_count == len(units)
    assert [head.fc.in_features for head in made.exit_heads] == [
        made.places[unit].channels for unit in units
    ]
    assert len(every(made, images(2)).logits) == len(units) + 1


def test_a_place_that_the_network_lacks_is_refused_with_those_it_has(
    net: Callable[..., MultiExitNet],
) -> None:
    with pytest.raises(
        ValueError, match=r"^exit_places: 0\+3 is not possible, this network has places 0 to 2$"
    ):
        net(exit_places="0+3", exits="light")


def test_a_study_file_takes_numbers_of_places_in_one_way_of_writing_and_refuses_other_texts() -> (
    None
):
    space = dimensions(MultiExitConfig)
    places = {d.name: d for d in narrowed(space, {"exit_places": ["late", "2+0", 1]}, "space")}[
        "exit_places"
    ]
    assert places.choices == ("late", "0+2", "1")
    for wrong in ("0+", "middle", "-1", "0,2", "²"):
        with pytest.raises(
            ValueError, match=r"is not one of all, early, late, or numbers of places such as 0\+2$"
        ):
            narrowed(space, {"exit_places": wrong}, "space")


def test_confidences_of_hand_made_answers() -> None:
    even, sure = torch.zeros(1, 4), torch.tensor([[500.0, 0.0, 0.0, 0.0]])
    half = torch.tensor([[0.0, 0.0, -500.0, -500.0]])
    uneven = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert certainty(even).item() == pytest.approx(0)
    assert certainty(half).item() == pytest.approx(0.5)
    assert certainty(sure).item() == 1
    assert margin(uneven).item() == pytest.approx(0.2)
    assert (margin(even).item(), margin(sure).item()) == (0, 1)
    assert ExitRule().confidence(0, [uneven]).item() == pytest.approx(0.5)
    cool = ExitRule(temperatures=(2.0,))
    assert cool.confidence(0, [2 * uneven]).item() == pytest.approx(0.5)
    for kind, expected in (
        ("maxprob", 0.5),
        ("margin", 0.2),
        ("entropy", certainty(uneven).item()),
    ):
        assert ExitRule(rule=kind).confidence(1, [even, uneven]).item() == pytest.approx(expected)


def test_agreement_counts_equal_answers_before_the_last_without_a_gap() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for answers, share in (
        ([a], 0),
        ([a, a], 1 / 2),
        ([b, a], 0),
        ([b, a, a], 1 / 3),
        ([a, b, a], 0),
    ):
        assert agreement(answers).item() == pytest.approx(share)
    assert agreement([a, a, a]).item() == pytest.approx(2 / 3)
    assert agreement([torch.cat([a, b]), torch.cat([a, a])]).tolist() == [0.5, 0]


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_leaves_where_that_many_exits_before_agree(patience: int) -> None:
    thresholds = tuple((patience - 0.5) / (exit + 1) for exit in range(4))
    rule = ExitRule(rule="patience", thresholds=thresholds)
    # an image a row
    answers = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 0, 1]])
    logits = [F.one_hot(column, 3).float() for column in answers.T]
    leaves = torch.stack([rule.leaves(exit, logits) for exit in range(4)])
    first = [next((exit for exit in range(4) if leaves[exit, row]), None) for row in range(4)]
    assert first == {1: [1, 2, 3, None], 2: [2, 3, None, None]}[patience]


@pytest.mark.parametrize("number", range(4))
def test_a_judge_weighs_what_the_other_rules_read(number: int) -> None:
    logits = [torch.randn(6, 4), torch.randn(6, 4)]
    read = [
        logits[1].softmax(1).amax(1),
        margin(logits[1]),
        certainty(logits[1]),
        agreement(logits),
    ]
    weights = [0.0] * 5
    weights[number], weights[-1] = 2.0, -0.7
    rule = ExitRule(rule="judge", judges=((9.0,) * 5, tuple(weights)))
    torch.testing.assert_close(rule.confidence(1, logits), torch.sigmoid(2 * read[number] - 0.7))
    torch.testing.assert_close(judged(logits[1], agreement(logits)), torch.stack(read, 1))


def test_a_confidence_equal_to_the_threshold_does_not_leave() -> None:
    even = [torch.zeros(3, 2)]
    assert not ExitRule(thresholds=(0.5,)).leaves(0, even).any()
    assert ExitRule(thresholds=(0.49,)).leaves(0, even).all()
    assert not ExitRule(thresholds=(0.49,), every=True).leaves(0, even).any()
    assert not ExitRule(thresholds=(0.49,)).leaves(1, even * 2).any()


def test_an_exit_rule_refuses_what_it_does_not_know() -> None:
    with pytest.raises(
        ValueError,
        match=r"^exit_rule: sure is not one of maxprob, entropy, margin, patience, judge$",
    ):
        ExitRule(rule="sure")
    with pytest.raises(ValueError, match=r"^fallback: vote is not one of deepest, ensemble$"):
        ExitRule(fallback="vote")
    with pytest.raises(ValueError, match=r"^judges: 1 for 2 thresholds; give one an exit$"):
        ExitRule(rule="judge", thresholds=(0.5, 0.5), judges=((1.0,) * 5,))
    with pytest.raises(
        ValueError, match=r"^temperatures: 1 for 2 thresholds; give one an exit, or none$"
    ):
        ExitRule(thresholds=(0.5, 0.5), temperatures=(1.0,))
    with pytest.raises(ValueError, match=r"^fallback: vote is not one of"):
        Knobs(exit_rule="maxprob", exit_thresholds=(0.5,), fallback="vote")


def test_a_network_without_a_place_for_an_exit_says_so(net: Callable[..., MultiExitNet]) -> None:
    made = net()
    with pytest.raises(ValueError, match=r"^exits: scan needs a network of two stages at least$"):
        made.add_exits(made.config, [], 8)
