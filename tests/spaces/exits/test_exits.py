"""Early exits: who leaves where, and at what cost.

Shapes: B images, C classes, K early exits.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spaces.contract.exit_places import Place
from spaces.contract.exit_rules import ExitRule
from spaces.contract.narrowing import narrowed
from spaces.contract.net import Exits, Output
from spaces.contract.policies import AlwaysOn, Threshold
from spaces.contract.space import dimensions
from spaces.exits.exit_heads import Attention, ScanHead
from spaces.families.multi_exit import MultiExitConfig, MultiExitNet
from tests.spaces.exits.nets import K

JUDGES = ((0.7, -1.2, 2.0, 0.5, -0.8),) * (K + 1)
RULES = ("maxprob", "entropy", "margin", "patience", "judge")


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


def test_a_network_without_a_place_for_an_exit_says_so(net: Callable[..., MultiExitNet]) -> None:
    made = net()
    with pytest.raises(ValueError, match=r"^exits: scan needs a network of two stages at least$"):
        made.add_exits(made.config, [], 8)
