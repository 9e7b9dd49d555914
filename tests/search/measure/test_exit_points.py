"""Points of exits, read off tables: the same as what a real pass under their knobs gives."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from search.measure.effort import Effort
from search.measure.exit_grid import ExitTable
from search.measure.exit_points import (
    exit_points,
    judges_of,
    search_thresholds,
    selection_biases,
    temperature,
)
from search.measure.exit_thresholds import setting, thin_out
from search.measure.operating_points import operating_points
from search.run.data import task_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from trainers.data.splits import DataSpec, ImageData, load
from trainers.evaluate import evaluate
from trainers.execution import Execution
from trainers.exit_logits import exit_logits
from trainers.fit import fit
from trainers.metrics import ACCURACY, BALANCED, MACRO_F1, TOP5, Metric


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.25, train_limit=500))


def trained(data: ImageData, name: str, epochs: int = 2, **values: Any) -> DynamicNet:
    candidate = Candidate.of(family(name), values, epochs)
    net = candidate.build(task_of(data), 0)
    assert list(fit(net, data, candidate.recipe))
    return net.eval()


@pytest.fixture(scope="module")
def gated(digits: ImageData) -> DynamicNet:
    return trained(digits, "gated_resnet", backbone="resnet8", width=0.5, batch=32, exits="light")


@pytest.fixture(scope="module")
def shuffled(digits: ImageData) -> DynamicNet:
    return trained(digits, "shuffled_vit", layers=3, dim=32, patch=2, batch=32, augment=False)


@pytest.mark.slow
@pytest.mark.parametrize("base", [Knobs(policy="always_on"), Knobs(tau=0.7)], ids=["open", "gated"])
def test_a_point_from_tables_is_what_a_real_pass_measures(
    digits: ImageData, gated: DynamicNet, base: Knobs
) -> None:
    raw = exit_logits(gated, digits.validation, digits, base)
    points = exit_points(raw, base)
    assert len(points) >= 4
    rules = {p.knobs.exit_rule for p in points}
    for point in points:
        for compact in (False, True):
            table = evaluate(gated, digits.validation, digits, point.knobs, compact=compact)
            torch.testing.assert_close(table.macs_PN[0], point.macs)
            # its table is cross-fitted, what ships is fitted on all
            if point.knobs.exit_rule != "judge":
                assert torch.equal(table.correct_PN[0], point.correct)
        if rules == {"judge"}:
            pytest.fail("only judges on the front: nothing was compared")


@pytest.mark.slow
def test_points_are_a_front_that_spans_from_the_first_exit_to_the_last(
    digits: ImageData, gated: DynamicNet
) -> None:
    raw = exit_logits(gated, digits.validation, digits, Knobs(policy="always_on"))
    points = exit_points(raw, Knobs(policy="always_on"))
    costs = [float(p.macs.mean()) for p in points]
    accuracies = [float(p.correct.double().mean()) for p in points]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)
    assert costs[0] < 1.05 * float(raw.macs[0].mean())


def test_temperature_undoes_overconfidence() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert temperature(logits, labels) == pytest.approx(1.0, abs=0.1)
    assert temperature(4 * logits, labels) == pytest.approx(4.0, abs=0.4)


def lucky(images: int, seed: int) -> ExitTable:
    """Exits that know something of who is right, and not much."""
    draw = np.random.default_rng(seed)
    ease = draw.random(images)
    confidence = np.clip(ease + draw.normal(0, 0.5, (3, images)), 0, 1)
    correct = draw.random((4, images)) < 0.3 + 0.1 * np.arange(4)[:, None] + 0.3 * ease
    macs = np.broadcast_to(np.arange(1.0, 5.0)[:, None], (4, images)).copy()
    return ExitTable(confidence, correct, macs, draw.random(images) < 0.7)


def test_the_bias_is_about_what_choosing_on_the_measured_images_flatters() -> None:
    estimated, actual = [], []
    for seed in range(12):
        both = lucky(10_300, seed)
        seen, fresh = both.of(np.arange(300)), both.of(np.arange(300, 10_300))
        search = partial(search_thresholds, fine=True)
        kept = thin_out(search({"maxprob": seen}), 10)
        estimated += selection_biases({"maxprob": seen}, kept, search)
        actual += [
            one.accuracy - setting(fresh, one.thresholds, one.fallback).accuracy for one in kept
        ]
    assert 0.02 < np.mean(actual) < np.mean(estimated) < 2.5 * np.mean(actual)


def test_a_coarse_grid_flatters_less_than_a_fine_one() -> None:
    biases = {fine: [] for fine in (False, True)}  # type: dict[bool, list[float]]
    for seed in range(12):
        tables = {"maxprob": lucky(300, seed)}
        for fine, found in biases.items():
            search = partial(search_thresholds, fine=fine)
            found += selection_biases(tables, thin_out(search(tables), 10), search)
    assert np.mean(biases[False]) < 0.8 * np.mean(biases[True])


@pytest.mark.parametrize("fine", [True, False])
def test_a_threshold_of_the_deepest_head_finds_what_no_other_vector_gives(fine: bool) -> None:
    plain = lucky(300, 3)
    draw = np.random.default_rng(3)
    # the deepest head is right where it is sure, and the ensemble where it is not
    sure = draw.random(300)
    told = replace(plain, deepest=sure, ensemble=sure < 0.5)
    told.correct[-1] = sure >= 0.5
    without = search_thresholds({"maxprob": replace(told, deepest=None)}, fine=fine)
    found = search_thresholds({"maxprob": told}, fine=fine)
    assert all(
        any(o.macs <= one.macs and o.accuracy >= one.accuracy for o in found) for one in without
    )
    assert found[-1].accuracy > without[-1].accuracy + 0.1
    assert len(found[-1].thresholds) == 4
    assert found[-1].accuracy == setting(told, found[-1].thresholds, "ensemble").accuracy
    own = [one for one in found if len(one.thresholds) == 4]
    assert all(0 <= one.thresholds[-1] < 1 and one.fallback == "ensemble" for one in own)


def test_images_that_are_all_alike_leave_nothing_to_luck() -> None:
    one = lucky(1, 0)
    tables = {"maxprob": one.of(np.zeros(40, np.int64))}
    search = partial(search_thresholds, fine=False)
    kept = search(tables)
    assert selection_biases(tables, kept, search) == [0.0] * len(kept)


@pytest.mark.slow
def test_the_genetic_search_finds_points_as_scan_has_them(
    digits: ImageData, gated: DynamicNet
) -> None:
    raw = exit_logits(gated, digits.validation, digits, Knobs(policy="always_on"))
    raw = replace(raw, logits=8 * raw.logits)  # its levels are those of sure networks
    found = exit_points(raw, Knobs(policy="always_on"), "genetic")
    assert any(len(one.knobs.exit_thresholds) == gated.exit_count + 1 for one in found)
    for one in found:
        assert (one.knobs.exit_rule, one.knobs.fallback) == ("maxprob", "ensemble")
        assert one.knobs.exit_temperatures == ()
        assert all(0.7 <= level <= 1 for level in one.knobs.exit_thresholds)
        rule = one.knobs.exits()
        assert rule is not None
        logits, macs = raw.under(rule)
        assert torch.equal(logits.argmax(1) == raw.labels, one.correct)
        assert torch.equal(macs, one.macs)
    effort = Effort(thresholds="genetic")
    points = operating_points(
        gated, digits, Recipe(batch=32), execution=Execution(), seed=0, quick=True, effort=effort
    )
    rules = {p.knobs["exit_rule"] for p in points if "exit_rule" in p.knobs}
    assert rules == {"maxprob"}, "also under way"


@pytest.mark.slow
def test_without_enough_mistakes_there_is_no_judge(digits: ImageData, gated: DynamicNet) -> None:
    raw = exit_logits(gated, digits.validation, digits, Knobs(policy="always_on"))
    perfect = torch.nn.functional.one_hot(raw.labels, 10).float()
    right = type(raw)(
        torch.stack([10 * perfect] * len(raw.logits)), raw.macs, raw.labels, raw.rates
    )
    assert judges_of(right, (1.0,) * len(raw.logits))[0] == ()
    assert all(p.knobs.exit_rule != "judge" for p in exit_points(right, Knobs(policy="always_on")))


@pytest.mark.slow
def test_a_network_with_exits_and_gates_has_points_of_both_together(
    digits: ImageData, gated: DynamicNet
) -> None:
    points = operating_points(gated, digits, Recipe(batch=32), execution=Execution(), seed=0)
    knobs = [p.knobs for p in points]
    assert "exit_rule" in knobs[0], "what the network was trained to do represents it"
    assert any("exit_rule" in k and k["policy"] == "threshold" for k in knobs)
    assert any("exit_rule" not in k and k["policy"] == "threshold" for k in knobs)
    with_exits = next(p for p in points if "exit_rule" in p.knobs)
    assert sum(row["share"] for row in with_exits.extra["exits"]) == pytest.approx(1.0)
    assert all(("selection_bias" in p.extra) == ("exit_rule" in p.knobs) for p in points)


@pytest.mark.slow
def test_a_point_says_which_images_it_answers_rightly_in_one_order(
    digits: ImageData, gated: DynamicNet
) -> None:
    points = operating_points(gated, digits, Recipe(batch=32), execution=Execution(), seed=0)
    images = len(digits.validation)
    for p in points:
        assert (p.right is None) == (p.knobs["policy"] == "stochastic")
        assert p.extra["accuracy_std"] >= 0
        if p.right is not None:
            right = np.unpackbits(np.frombuffer(p.right, np.uint8), count=images)
            assert right.mean() == pytest.approx(p.accuracy)
    exits = next(p for p in points if "exit_rule" in p.knobs)
    again = evaluate(gated, digits.validation, digits, Knobs(**exits.knobs))
    assert ACCURACY.packed(again.answers) == exits.right


@pytest.mark.slow
@pytest.mark.parametrize("metric", [BALANCED, MACRO_F1, TOP5], ids=lambda m: m.name)
def test_a_points_accuracy_is_what_the_metric_says_with_top_1_beside_it(
    digits: ImageData, gated: DynamicNet, metric: Metric
) -> None:
    points = operating_points(
        gated, digits, Recipe(batch=32), execution=Execution(), seed=0, quick=True, metric=metric
    )
    assert any("exit_rule" in p.knobs for p in points)
    assert any(p.accuracy != p.extra["top1"] for p in points)
    for p in points:
        assert p.metric == metric.name
        if (
            p.knobs.get("exit_rule") == "judge"
        ):  # measured with judges that were fitted on other images
            continue
        again = evaluate(gated, digits.validation, digits, Knobs(**p.knobs))
        assert (p.accuracy, p.accuracy_low, p.accuracy_high) == metric.measure(again.answers)
        assert p.extra["top1"] == again.accuracy
        assert p.right == metric.packed(again.answers)


@pytest.mark.slow
def test_a_network_trained_to_move_is_measured_with_fewer_layers_and_in_other_orders(
    digits: ImageData, shuffled: DynamicNet
) -> None:
    points = operating_points(shuffled, digits, Recipe(batch=32), execution=Execution(), seed=0)
    kept = {tuple(p.knobs["keep"]) for p in points if "keep" in p.knobs}
    assert {(0,), (0, 1), (0, 2), (1,)} <= kept
    moved = [p.knobs.get("keep") for p in points if p.knobs.get("order") == "arbitrary"]
    assert moved == [None, [0, 1]], "all layers, and fewer, in arbitrary orders"
    assert len({p.macs_mean for p in points}) == 3
    again = evaluate(shuffled, digits.validation, digits, Knobs(**points[-1].knobs))
    assert again.accuracy == points[-1].accuracy
