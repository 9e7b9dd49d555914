"""Metrics of accuracy against scikit-learn's, their intervals and their paired tests."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from trainers.answers import Answers, Ints
from trainers.by_class import unpacked
from trainers.metrics import ACCURACY, BALANCED, MACRO_F1, METRICS, TOP5, Metric
from trainers.significance import better_by_swaps, mcnemar

SHARES = (0.6, 0.25, 0.1, 0.05)


def answers_of(labels: Ints, *passes: Ints, top5: Ints | None = None) -> Answers:
    rows = np.stack(passes)
    return Answers(rows, rows == labels if top5 is None else top5[None] == 1, labels)


def drawn(seed: int, images: int = 300, sure: float = 0.6) -> tuple[Ints, Ints]:
    """Labels of classes of different size, and answers of which some are the labels and the rest random."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), rng.choice(4, images - 4, p=SHARES)])
    return labels, np.where(rng.random(images) < sure, labels, rng.integers(4, size=images))


@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_scikit_learn(seed: int) -> None:
    labels, answers = drawn(seed)
    seen = answers_of(labels, answers)
    expected = {
        ACCURACY: sklearn_metrics.accuracy_score(labels, answers),
        BALANCED: sklearn_metrics.balanced_accuracy_score(labels, answers),
        MACRO_F1: sklearn_metrics.f1_score(labels, answers, average="macro"),
    }
    for metric, value in expected.items():
        found = metric.measure(seen)
        assert found.value == pytest.approx(value, abs=1e-12)
        assert 0 <= found.low < found.value < found.high <= 1


def test_top_5_accuracy_is_the_share_of_labels_among_the_five_likeliest() -> None:
    labels, top5 = np.arange(8), np.array([1, 1, 0, 1, 0, 1, 1, 1])
    assert TOP5.measure(answers_of(labels, labels, top5=top5)).value == 6 / 8


def test_passes_are_averaged() -> None:
    labels, first = drawn(0)
    second = drawn(0, sure=0.3)[1]
    for metric in (ACCURACY, BALANCED, MACRO_F1):
        one, two, both = (
            metric.measure(answers_of(labels, *some)).value
            for some in ((first,), (second,), (first, second))
        )
        assert both == pytest.approx((one + two) / 2)
        assert metric.packed(answers_of(labels, first, second)) is None


def test_what_has_no_label_among_the_images_is_left_out() -> None:
    labels, answers = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    assert BALANCED.measure(answers_of(labels, answers)).value == 0.75
    assert MACRO_F1.measure(answers_of(labels, answers)).value == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize("metric", [BALANCED, MACRO_F1], ids=lambda m: m.name)
def test_a_few_images_that_are_all_answered_rightly_prove_little(metric: Metric) -> None:
    labels = np.array([0] * 50 + [1] * 3)
    found = metric.measure(answers_of(labels, labels))
    assert found.value == found.high == 1
    assert found.low < 0.85


@pytest.mark.parametrize("metric", [BALANCED, MACRO_F1], ids=lambda m: m.name)
@pytest.mark.parametrize("sure", [0.3, 0.9])
def test_intervals_hold_the_true_value_about_95_times_in_100(metric: Metric, sure: float) -> None:
    labels, answers = drawn(99, 400_000, sure)
    truth, held, draws = metric.measure(answers_of(labels, answers)).value, 0, 300
    rng = np.random.default_rng(1)
    for _ in range(draws):
        some = rng.integers(len(labels), size=250)
        found = metric.measure(answers_of(labels[some], answers[some]))
        held += found.low <= truth <= found.high
    assert held / draws > 0.9


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_always_the_same_answer_has_what_the_metric_says(metric: Metric) -> None:
    labels = np.repeat(np.arange(8), [90, 20, 10, 8, 7, 6, 5, 4])
    answers = answers_of(labels, np.zeros_like(labels), top5=(labels < 5).astype(int))
    assert metric.measure(answers).value == pytest.approx(metric.constant(np.bincount(labels)))


@pytest.mark.parametrize("metric", [ACCURACY, BALANCED, MACRO_F1], ids=lambda m: m.name)
def test_guessing_has_what_the_metric_says(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 200_000, p=[0.3, 0.3, 0.2, 0.2])
    guessed = metric.measure(answers_of(labels, rng.integers(4, size=len(labels)))).value
    assert guessed == pytest.approx(metric.guessing(np.bincount(labels)), abs=0.005)


def test_macro_f1_counts_from_the_better_of_two_networks_that_know_nothing() -> None:
    assert MACRO_F1.guessing(np.array([98, 2])) == pytest.approx((2 * 98 / 198) / 2)
    assert MACRO_F1.guessing(np.array([50, 50])) == pytest.approx(0.5)
    assert TOP5.guessing(np.full(10, 7)) == 0.5


def test_top_5_needs_six_classes() -> None:
    TOP5.check(6)
    with pytest.raises(ValueError, match="top5_accuracy: needs images of 6 classes or more"):
        TOP5.check(5)


def test_answers_survive_being_packed() -> None:
    labels, answers = drawn(3)
    packed = BALANCED.packed(answers_of(labels, answers))
    assert packed is not None
    assert [own.tolist() for own in unpacked(packed)] == [labels.tolist(), answers.tolist()]


@pytest.mark.parametrize("metric", [BALANCED, MACRO_F1], ids=lambda m: m.name)
def test_a_network_that_finds_the_small_class_is_better_and_a_luckier_one_is_not(
    metric: Metric,
) -> None:
    labels = np.array([0] * 270 + [1] * 30)
    constant, finds = np.zeros_like(labels), labels.copy()
    finds[:20] = 1  # wrong on more images than it wins on its class: 20 against 15
    finds[-15:] = 0
    ours, theirs = (metric.packed(answers_of(labels, one)) for one in (finds, constant))
    assert ours is not None
    assert theirs is not None
    assert metric.better(ours, theirs)
    assert not metric.better(theirs, ours)
    lucky = constant.copy()
    lucky[-3:] = 1
    few = metric.packed(answers_of(labels, lucky))
    assert few is not None
    assert not metric.better(few, theirs)  # three images, which McNemar's test would not be sure of


@pytest.mark.parametrize("metric", [BALANCED, MACRO_F1], ids=lambda m: m.name)
def test_equal_networks_are_seldom_called_different(metric: Metric) -> None:
    called, draws = 0, 60
    for seed in range(draws):
        labels, first = drawn(seed, 200)
        rng = np.random.default_rng(1000 + seed)
        second = np.where(rng.random(200) < 0.6, labels, rng.integers(4, size=200))
        packed = [metric.packed(answers_of(labels, one)) for one in (first, second)]
        assert packed[0] is not None
        assert packed[1] is not None
        called += metric.better(packed[0], packed[1]) or metric.better(packed[1], packed[0])
    assert called / draws <= 0.1


def test_swaps_agree_with_mcnemars_test_where_all_images_count_alike() -> None:
    for ours, theirs in ((6, 0), (5, 0), (20, 9), (16, 9), (40, 20)):
        gained = np.array([1.0] * ours + [-1.0] * theirs + [0.0] * 50)
        assert better_by_swaps(gained) == (mcnemar(ours, theirs) < 0.05)
        assert not better_by_swaps(-gained)
