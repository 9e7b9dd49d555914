"""Two studies compared: numbers worked out by hand, intervals that say whether a difference may be luck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.front.two_fronts import compare, coverage, usual_budgets
from search.latency.table import LatencyTable, Timed, write_table
from search.latency.time_units import BRANCH, CALL
from search.objectives import MACS
from search.spec import parse_study
from storage.records import Kind, OperatingPoint
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point, point
from tests.search.conftest import dynafront
from trainers.answers import Answers
from trainers.metrics import BALANCED, MACRO_F1, Metric

IMAGES = 1000
TEXT = "study: NAME\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 2, epochs: 3}\n"


def answered(accuracy: float, macs: float, shift: int = 0) -> OperatingPoint:
    """A point of IMAGES images that answers the first ones rightly, from `shift` on."""
    right = np.roll(np.arange(IMAGES) < round(accuracy * IMAGES), shift)
    reach = 1.96 * (accuracy * (1 - accuracy) / IMAGES) ** 0.5
    return operating_point(
        accuracy,
        macs,
        accuracy_low=accuracy - reach,
        accuracy_high=accuracy + reach,
        right=np.packbits(right).tobytes(),
    )


def study(store: Store, name: str, *points: OperatingPoint, text: str = TEXT) -> None:
    text = text.replace("NAME", name)
    spec = parse_study(text, name).model_dump(mode="json")
    store.add_study(name, spec, text, {"accuracy": 0.0, "macs": 1e7})
    store.set_data(name, {"digest": "same"})
    for number, own in enumerate(points):
        store.add_trial(name, Kind.SEARCH, number, "gated_resnet", {}, 0, 3)
        store.finish_trial(name, Kind.SEARCH, number, points=[own], result={}, seconds=1.0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store.open(Settings().database_url)


def compared(store: Store, *budgets: float) -> Any:
    return compare(store, (store.study("one"), store.study("two")), budgets)


def test_hypervolumes_are_measured_from_a_common_reference(store: Store) -> None:
    study(store, "one", answered(0.9, 1e6))
    study(store, "two", answered(0.8, 5e6))
    with store._database.writing() as connection:
        connection.exec_driver_sql(
            "update dynafront_study set reference = '{\"accuracy\": 0.0, \"macs\": 2e7}' where name = 'two'"
        )
    found = compared(store)
    # of 2e7 MACs: 0.95 are left below 1e6, 0.75 below 5e6
    assert found.volumes == (pytest.approx(0.9 * 0.95), pytest.approx(0.8 * 0.75))


def test_the_interval_of_a_hypervolume_is_that_of_its_accuracy(store: Store) -> None:
    """One point: the hypervolume is its accuracy times a factor, and so is the interval, here the normal one."""
    study(store, "one", answered(0.9, 1e6))
    study(store, "two", answered(0.5, 1e6))
    found = compared(store)
    for own, accuracy in zip(found.volume_intervals, (0.9, 0.5), strict=True):
        reach = 1.96 * (accuracy * (1 - accuracy) / IMAGES) ** 0.5
        assert own == pytest.approx((0.9 * (accuracy - reach), 0.9 * (accuracy + reach)), abs=3e-3)
    assert found.difference_interval[0] > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("metric", [BALANCED, MACRO_F1])
def test_metrics_of_classes_have_intervals_too(store: Store, metric: Metric) -> None:
    """Two classes of equal size, both answered alike: both metrics are then near the accuracy."""
    text = TEXT + f"objectives: [{metric.name}, macs]\n"
    labels = np.arange(IMAGES) % 2
    for name, wrong in (("one", 0.1), ("two", 0.5)):
        answers = np.where(np.arange(IMAGES) < wrong * IMAGES, 1 - labels, labels)
        given = Answers(answers[None], np.zeros((1, IMAGES), bool), labels)
        value, low, high = metric.measure(given)
        more = {"accuracy_low": low, "accuracy_high": high, "extra": {"metric": metric.name}}
        own = operating_point(value, 1e6, right=metric.packed(given), **more)
        study(store, name, own, text=text)
    found = compared(store)
    assert found.metric is metric
    low, high = found.volume_intervals[0]
    reach = 1.96 * (0.9 * 0.1 / IMAGES) ** 0.5
    assert (low, high) == pytest.approx((0.9 * (0.9 - reach), 0.9 * (0.9 + reach)), abs=8e-3)
    assert found.difference_interval[0] > 0.25
    assert found.within[0].better == 0


def test_equal_answers_leave_no_doubt_and_others_do(store: Store) -> None:
    study(store, "one", answered(0.9, 1e6))
    study(store, "two", answered(0.9, 1e6))
    assert compared(store).difference_interval == (0.0, 0.0)
    study(store, "three", answered(0.9, 1e6, shift=500))
    found = compare(store, (store.study("one"), store.study("three")))
    assert found.difference_interval[0] < -0.01 < 0.01 < found.difference_interval[1]


def test_a_study_covers_what_it_equals_or_beats() -> None:
    ours = [point(0.9, 2e6), point(0.7, 1e6)]
    theirs = [point(0.9, 2e6), point(0.8, 3e6), point(0.8, 1e6), point(0.5, 5e5)]
    assert coverage(ours, theirs, (MACS,)) == 0.5
    assert coverage(theirs, ours, (MACS,)) == 1.0


def test_budgets_are_those_that_both_can_meet_first() -> None:
    one, two = [point(0.5, 1e6), point(0.9, 1e8)], [point(0.6, 4e6)]
    assert usual_budgets(one, two, MACS) == pytest.approx((4e6, 2e7, 1e8))
    assert usual_budgets(two, two, MACS) == (4e6,)


def test_the_best_within_a_budget_is_marked_where_it_is_significant(store: Store) -> None:
    study(store, "one", answered(0.5, 1e6), answered(0.9, 4e6))
    study(store, "two", answered(0.501, 1e6), answered(0.8, 3e6))
    small, large, none = compared(store, 2e6, 5e6, 1e5).within
    assert [p.accuracy for p in small.points] == [0.5, 0.501]
    assert small.better is None
    assert [p.accuracy for p in large.points] == [0.9, 0.8]
    assert large.better == 0
    assert none.points == (None, None)


def test_other_validation_images_are_compared_by_their_intervals(store: Store) -> None:
    """Of the same images three more that are answered rightly by one alone say little; thirty say much."""
    study(store, "one", answered(0.93, 1e6))
    study(store, "two", answered(0.90, 1e6), text=TEXT + "seed: 1\n")
    found = compared(store)
    assert not found.same_images
    assert found.within[0].better is None or found.within[0].better == 0
    study(store, "three", answered(0.90, 1e6))
    same = compare(store, (store.study("one"), store.study("three")))
    assert same.same_images
    assert same.within[0].better == 0
    low, high = found.difference_interval
    assert high - low > same.difference_interval[1] - same.difference_interval[0]


def test_points_without_answers_have_no_interval_of_hypervolume(store: Store) -> None:
    study(store, "one", operating_point(0.9, 1e6))
    study(store, "two", answered(0.8, 1e6))
    found = compared(store)
    assert (found.volume_intervals[0], found.difference_interval) == (None, None)
    assert found.volume_intervals[1] is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + "objectives: [accuracy, parameters]\n", "have different objectives"),
        (TEXT.replace("digits", "mnist"), "have different images"),
    ],
)
def test_what_cannot_be_compared_is_one_line(store: Store, text: str, message: str) -> None:
    study(store, "one", answered(0.9, 1e6))
    study(store, "two", answered(0.8, 1e6), text=text)
    result = dynafront("compare", "one", "two")
    assert result.exit_code == 2
    assert message in result.output.splitlines()[-1]


def test_a_study_without_a_front_is_named(store: Store) -> None:
    study(store, "one", answered(0.9, 1e6))
    study(store, "two")
    result = dynafront("compare", "one", "two")
    assert result.exit_code == 2
    assert "study two has no front yet" in result.output
    assert "name two" in dynafront("compare", "one", "one").output


def test_both_are_shown_side_by_side_and_to_programs(store: Store) -> None:
    study(store, "one", answered(0.5, 1e6), answered(0.9, 4e6))
    study(store, "two", answered(0.4, 1e6), answered(0.8, 3e6))
    result = dynafront("compare", "one", "two", "--within", "5M")
    assert result.exit_code == 0, result.output
    assert "best accuracy within 5.00 M MACs" in result.output
    assert "90.0 % * (88.1 % to 91.9 %); point 2, trial 1" in result.output
    assert "significant: one is better" in result.output
    found = json.loads(dynafront("compare", "one", "two", "--json").output)
    assert [one["study"] for one in found["studies"]] == ["one", "two"]
    assert len(found["within"]) == 3
    assert found["within"][-1]["better"] == "one"


@pytest.mark.slow
def test_both_fronts_are_drawn(store: Store) -> None:
    study(store, "one", answered(0.5, 1e6), answered(0.9, 4e6))
    study(store, "two", answered(0.4, 1e6), answered(0.8, 3e6))
    assert dynafront("compare", "one", "two", "--plot", "both.png").exit_code == 0
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")
    assert dynafront("compare", "one", "two", "--plot", "both.gif").exit_code == 2


def test_milliseconds_of_two_machines_are_not_compared(store: Store, tmp_path: Path) -> None:
    text = TEXT + "objectives: [accuracy, latency]\nlatency: NAME.json\n"
    for name, machine in (("one", "phone"), ("two", "server")):
        table = LatencyTable(
            machine={"name": machine},
            runtime="onnxruntime",
            device="cpu",
            threads=1,
            batch=1,
            versions={},
            units={key: Timed(unit=key, median=0, low=0, high=0) for key in (CALL, BRANCH)},
        )
        write_table(table, tmp_path / f"{name}.json")
        study(store, name, answered(0.9, 1e6), text=text)
    result = dynafront("compare", "one", "two")
    assert result.exit_code == 2
    assert "those of two of onnxruntime on server, cpu" in " ".join(result.output.split())
