"""Which static network an exported model stands beside."""

from __future__ import annotations

from search.export.static_net import baseline_beside, standing
from storage.records import Kind, PointRecord
from tests.points import point
from trainers.metrics import ACCURACY, TOP5


def baseline(accuracy: float, macs: float, number: int) -> PointRecord:
    return point(accuracy, macs, number, kind=Kind.BASELINE)


BASELINES = [baseline(0.95, 3e6, 2), baseline(0.9, 1e6, 0), baseline(0.94, 2e6, 1)]


def chosen(ours: PointRecord) -> tuple[int, str]:
    found = baseline_beside(ours, BASELINES)
    assert found is not None
    return found[0].trial, found[1]


def test_it_is_the_cheapest_that_is_not_significantly_worse() -> None:
    assert chosen(point(0.948, 1e6)) == (
        1,
        "the cheapest static network of the study that is not significantly worse on validation",
    )
    assert chosen(point(0.5, 1e5))[0] == 0


def test_where_none_is_as_good_it_is_the_most_accurate() -> None:
    assert chosen(point(0.99, 1e6)) == (
        2,
        "the most accurate static network of the study; all are significantly worse on validation",
    )


def test_a_baseline_stands_beside_another_one() -> None:
    assert chosen(BASELINES[2])[0] == 2
    assert baseline_beside(BASELINES[0], BASELINES[:1]) is None


def test_the_same_test_images_say_how_the_two_compare() -> None:
    all_right, six_wrong = bytes([0xFF, 0xFF]), bytes([0x03, 0xFF])
    assert standing(all_right, six_wrong, ACCURACY) == "significantly more accurate"
    assert standing(six_wrong, all_right, ACCURACY) == "significantly less accurate"
    assert (
        standing(all_right, all_right, ACCURACY) == "neither significantly more nor less accurate"
    )
    assert standing(all_right, all_right, TOP5).endswith("better nor worse in top-5 accuracy")
    assert standing(all_right, None, ACCURACY) is None
