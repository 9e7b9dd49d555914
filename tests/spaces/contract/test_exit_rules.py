"""When an image leaves: rules that read an exit's answer.

Shapes: B images, C classes, K early exits.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spaces.contract.exit_rules import ExitRule, agreement, certainty, judged, margin
from spaces.contract.knobs import Knobs


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
