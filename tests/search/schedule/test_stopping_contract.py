"""What every rule of early stopping promises: a new one is tested by standing in RULES."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.front.curves import Curve
from search.schedule.early_stopping import EarlyStopping, StoppingRule
from tests.search.schedule.trainings import Training, corner, curve, trainings

RULES: list[Callable[[], StoppingRule]] = [EarlyStopping]
EPOCHS = 30

every_rule = pytest.mark.parametrize("rule_of", RULES, ids=lambda rule: rule.__name__)
Answers = dict[int, list[tuple[int, bool]]]  # by training: each rung, and whether it went on


def report(
    rule: StoppingRule, number: int, one: Training, epoch: int, decided: bool | None = None
) -> bool:
    return rule.report(number, one.family, epoch, at(one, epoch), 1.0, corner(one.curve), decided)


def at(one: Training, epoch: int) -> Curve:
    """The curve of a training after an epoch: all its losses fall towards what they are at the end."""
    return np.column_stack([one.curve[:, 0] * (2 - epoch / EPOCHS), one.curve[:, 1:]])


def train(rule: StoppingRule, number: int, one: Training) -> list[tuple[int, bool]]:
    """Train it until it is stopped or ends."""
    answers = []
    for epoch in rule.rungs(number, EPOCHS):
        answers.append((epoch, report(rule, number, one, epoch)))
        if not answers[-1][1]:
            return answers
    rule.ended(number, one.family, one.curve)
    return answers


def train_all(rule: StoppingRule, found: list[Training], start: int = 0) -> Answers:
    return {n: train(rule, n, one) for n, one in enumerate(found) if n >= start}


def restored(rule: StoppingRule, found: list[Training], answers: Answers) -> StoppingRule:
    """Told all rungs with what was decided at them, then all ends, as a driver takes a study up."""
    for number, rungs in answers.items():
        for epoch, went_on in rungs:
            assert report(rule, number, found[number], epoch, went_on) is went_on
    for number, rungs in answers.items():
        if all(went_on for _, went_on in rungs):
            rule.ended(number, found[number].family, found[number].curve)
    return rule


def stopped(answers: Answers) -> dict[int, int]:
    """The epoch after which a training was stopped, of those that were."""
    return {number: rungs[-1][0] for number, rungs in answers.items() if rungs and not rungs[-1][1]}


@every_rule
def test_rungs_ascend_and_are_below_the_epochs(rule_of: Callable[[], StoppingRule]) -> None:
    for epochs in range(1, 300):
        rungs = rule_of().rungs(0, epochs)
        assert list(rungs) == sorted(set(rungs))
        assert all(0 < rung < epochs for rung in rungs)
    assert rule_of().rungs(0, EPOCHS), "longer trainings have some"


@every_rule
def test_a_rung_that_was_reported_is_not_to_be_judged_again(
    rule_of: Callable[[], StoppingRule],
) -> None:
    rule = rule_of()
    first, *rest = rule.rungs(0, EPOCHS)
    report(rule, 0, Training("a", curve((0.4, 0.5))), first)
    assert rule.rungs(0, EPOCHS) == tuple(rest)
    assert rule.rungs(1, EPOCHS) == (first, *rest), "others are"


@every_rule
@given(found=trainings())
def test_what_was_decided_before_stays_decided(
    rule_of: Callable[[], StoppingRule], found: list[Training]
) -> None:
    rule = rule_of()
    epoch = rule.rungs(0, EPOCHS)[0]
    for number, one in enumerate(found):
        decided = number % 3 != 0
        assert report(rule, number, one, epoch, decided) is decided
        if decided:
            rule.ended(number, one.family, one.curve)


@every_rule
@given(found=trainings())
def test_a_training_that_is_alone_goes_on(
    rule_of: Callable[[], StoppingRule], found: list[Training]
) -> None:
    assert all(went_on for _, went_on in train(rule_of(), 0, found[0]))


@every_rule
@given(found=trainings())
def test_equal_reports_lead_to_equal_decisions(
    rule_of: Callable[[], StoppingRule], found: list[Training]
) -> None:
    first, second = rule_of(), rule_of()
    assert train_all(first, found) == train_all(second, found)
    assert first.promising(corner(found[0].curve)) == second.promising(corner(found[0].curve))


@every_rule
@given(found=trainings())
def test_a_promising_training_was_stopped_and_resumes_from_there_once(
    rule_of: Callable[[], StoppingRule], found: list[Training]
) -> None:
    rule = rule_of()
    waiting = stopped(train_all(rule, found))
    corner_ = corner(found[0].curve)
    while (number := rule.promising(corner_)) is not None:
        assert rule.resume(number) == waiting.pop(number)
        rule.ended(number, found[number].family, found[number].curve)


@every_rule
def test_a_training_resumes_after_the_epoch_at_which_it_was_stopped(
    rule_of: Callable[[], StoppingRule],
) -> None:
    rule, one = rule_of(), Training("a", curve((0.4, 0.5)))
    first, second, *_ = rule.rungs(0, EPOCHS)
    report(rule, 0, one, first, decided=False)
    assert rule.resume(0) == first
    assert second in rule.rungs(0, EPOCHS), "it is judged at the rungs that are left"
    report(rule, 0, one, second, decided=False)
    assert rule.resume(0) == second


@every_rule
@given(found=trainings(), data=st.data())
def test_reports_that_are_restored_give_the_decisions_of_an_uninterrupted_study(
    rule_of: Callable[[], StoppingRule], found: list[Training], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(found)))
    whole, before = rule_of(), rule_of()
    answers = train_all(whole, found)
    known = train_all(before, found[:cut])
    after = restored(rule_of(), found, known)
    corner_ = corner(found[0].curve)
    assert after.promising(corner_) == before.promising(corner_)
    assert train_all(after, found, cut) == {n: own for n, own in answers.items() if n >= cut}
    assert after.promising(corner_) == whole.promising(corner_)


@every_rule
@given(found=trainings())
def test_baselines_may_come_at_any_time(
    rule_of: Callable[[], StoppingRule], found: list[Training]
) -> None:
    rule = rule_of()
    for number, one in enumerate(found):
        rule.baseline(one.curve)
        train(rule, number, one)
