"""Cascades searched on tables of what their members answer and cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import search.measure.cascade_tables as tables
from search.measure.calibration import likely_right
from search.measure.cascade_choice import Bounds, Region, flattery, grown, kept_cascades
from search.measure.cascade_search import search_cascades
from search.measure.cascade_tables import MemberTable, measured, outcomes, room_for, worth_joining
from spaces.contract.cascades import RULES, CascadeRule

REGION = Region(floor=0.1, ceiling=100.0)


def table(seed: int = 0, members: int = 4, images: int = 60, classes: int = 3) -> MemberTable:
    """Members that grow better and more expensive; some images are hard for all."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(size=(members, images, classes))
    good = np.linspace(0.5, 3, members)[:, None] - rng.normal(size=images)
    logits[:, np.arange(images), labels] += good
    macs = np.arange(1.0, members + 1)[:, None] ** 2 + rng.random((members, images)) * 0.1
    probabilities = torch.from_numpy(logits).float().softmax(2)
    return MemberTable(
        probabilities, macs, labels, np.arange(members), macs.max(1), np.full(members, 10.0)
    )


def accuracies(of: MemberTable) -> np.ndarray:
    return (of.probabilities.argmax(2).numpy() == of.labels).mean(1)


def test_an_image_is_answered_by_the_first_member_that_is_sure() -> None:
    first = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    second = torch.tensor([[0.0, 1.0], [0.1, 0.9], [0.7, 0.3]])
    macs = [np.array([1.0, 1.0, 1.0]), np.array([4.0, 5.0, 6.0])]
    rule = CascadeRule(rule="maxprob", thresholds=(0.55,), committee=False)
    found = outcomes([first, second], macs, rule)
    assert found.stage.tolist() == [0, 0, 1]
    assert found.macs.tolist() == [1, 1, 7]
    assert found.probabilities[2].tolist() == pytest.approx([0.7, 0.3])
    # a margin of 0.2 is not above 0.2; of a committee the mean answers
    rule = CascadeRule(rule="margin", thresholds=(0.21,), committee=True)
    found = outcomes([first, second], macs, rule)
    assert found.stage.tolist() == [0, 1, 1]
    assert found.probabilities[1].tolist() == pytest.approx([0.35, 0.65])


def test_the_mean_of_three_members_counts_each_alike() -> None:
    ran = [torch.tensor([[p, 1 - p]]) for p in (0.2, 0.6, 0.7)]
    rule = CascadeRule(rule="maxprob", thresholds=(1.0, 1.0), committee=True)
    found = outcomes(ran, [np.ones(1)] * 3, rule)
    assert found.probabilities[0, 0].item() == pytest.approx(0.5)
    assert found.macs.tolist() == [3]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_every_cascade_costs_what_its_front_says(seed: int) -> None:
    own = table(seed)
    found = search_cascades(own)
    for one in found:
        assert measured(own, one.members, one.rule).macs == pytest.approx(one.macs)
        assert len(set(one.members)) == len(one.members) in (2, 3)
    values = [(one.macs, one.accuracy) for one in found]
    assert values == sorted(values)  # a front: who costs more is more accurate


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_no_pair_at_any_threshold_beats_what_was_found(seed: int) -> None:
    own = table(seed, members=3, images=30)
    found = search_cascades(own)
    right = own.probabilities.argmax(2).numpy() == own.labels
    for first, second in ((0, 1), (0, 2), (1, 2)):
        likely_first = likely_right([_top(own, first)], right[[first]])[0]
        known = [_top(own, second), _top(own, first)]
        likely_second = likely_right(known, right[[second]])[0]
        for rule in RULES:
            ask = CascadeRule(rule=rule, thresholds=(), committee=False)
            confidence = ask.confidence(own.probabilities[first]).double().numpy()
            for threshold in confidence[:-1]:
                goes = confidence <= threshold
                if goes.all():
                    continue
                expected = np.where(goes, likely_second, likely_first).mean()
                macs = (own.macs[first] + goes * own.macs[second]).mean()
                near = 1e-6
                assert any(c.macs <= macs + near and c.accuracy >= expected - near for c in found)


def _top(of: MemberTable, member: int) -> np.ndarray:
    return of.probabilities[[member]].amax(2).double().numpy()


def test_settings_of_one_network_are_not_joined() -> None:
    own = table()
    one = MemberTable(
        own.probabilities, own.macs, own.labels, np.zeros(4, int), own.most_macs, own.parameters
    )
    assert search_cascades(one) == []


def test_a_cascade_keeps_within_the_limits_of_the_study() -> None:
    own = table()
    assert any(len(c.members) == 3 for c in search_cascades(own))
    assert {c.members for c in search_cascades(own, macs=5.5)} == {(0, 1)}
    assert all(len(c.members) == 2 for c in search_cascades(own, parameters=20))
    assert search_cascades(own, parameters=19) == []


def test_a_cascade_is_kept_where_the_front_grows_by_it() -> None:
    own = table(images=800)
    accuracy, macs = accuracies(own), own.macs.mean(1)
    kept = kept_cascades(own, accuracy, macs, REGION, Bounds(), most=5)
    assert 1 <= len(kept.cascades) <= 5
    assert [c.macs for c in kept.cascades] == sorted(c.macs for c in kept.cascades)
    # nothing can grow by them where the front has all already
    none = kept_cascades(own, np.array([1.0]), np.array([0.5]), REGION, Bounds())
    assert none.cascades == []


def test_chance_alone_keeps_no_cascade() -> None:
    """Members that all guess: what the best pairs seem to be better by is flattery."""
    rng = np.random.default_rng(1)
    own = table(images=300, members=6)
    noise = torch.from_numpy(rng.normal(size=own.probabilities.shape)).float().softmax(2)
    guess = MemberTable(noise, own.macs, own.labels, own.training, own.most_macs, own.parameters)
    accuracy, macs = accuracies(guess), own.macs.mean(1)
    bias = flattery(guess, search_cascades(guess), Bounds())
    assert bias > 0.01
    kept = kept_cascades(guess, accuracy, macs, Region(1 / 3, 100.0), Bounds())
    fresh = [c for c in kept.cascades if c.accuracy - bias > accuracy.max()]
    assert fresh == []


def test_candidates_are_taken_by_what_the_front_grows_by() -> None:
    known = np.array([[0.5, 0.5]])
    candidates = np.array([[0.6, 0.6], [0.2, 0.6], [0.21, 0.6], [0.6, 0.4], [0.1, 1.2]])
    assert grown(known, candidates, 9) == [1, 3]
    assert grown(known, candidates, 1) == [1]


def test_likely_right_is_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 0.99, (2, 800))
    right = rng.random((2, 800)) < confidence**2
    found = likely_right([confidence], right)
    for own, answers, mine in zip(confidence, right, found, strict=True):
        x = np.log(own / (1 - own))[:, None]
        theirs = LogisticRegression(C=1e6).fit(x, answers).predict_proba(x)[:, 1]
        np.testing.assert_allclose(mine, theirs, atol=0.02)
    np.testing.assert_allclose(found.mean(1), right.mean(1), atol=0.01)


def test_likely_right_is_finite_where_all_is_right() -> None:
    found = likely_right([np.ones((1, 50))], np.ones((1, 50), dtype=bool))
    assert (found > 0.9).all()


def test_fewer_members_are_searched_of_many_images_and_classes() -> None:
    assert room_for(1000, 10) == tables.MOST_MEMBERS
    assert 2 <= room_for(30_000, 1000) < room_for(10_000, 1000) < tables.MOST_MEMBERS
    accuracy = np.array([0.5, 0.9, 0.6, 0.4])
    macs = np.array([1.0, 3.0, 2.0, 5.0])
    assert worth_joining(accuracy, macs, 3) == [0, 1, 2]  # the last one is beaten by all
    assert worth_joining(accuracy, macs, 0) == []
