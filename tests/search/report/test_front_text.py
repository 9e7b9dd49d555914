"""What is said of a front."""

from __future__ import annotations

import pytest

from search.front.pareto import front
from search.front.stored import study_majority
from search.objectives import MACS_P95
from search.report.front_text import about, beats_baselines, summary
from storage.store import Store
from tests.search.report.fronts import BASELINES, CLOUD, embedded, page, picture, point


def test_the_summary_counts_the_points_that_the_baselines_do_not_match():
    members = front(CLOUD)
    assert (
        summary("digits", members, BASELINES)
        == "digits: 3 points on the front, 2 beat every baseline of equal cost"
    )
    assert (
        summary("digits", members) == "digits: 3 points on the front, up to 95.0 % at 4.00 M MACs"
    )
    assert (
        summary("digits", members[:1], BASELINES)
        == "digits: 1 point on the front, none beats the baselines of equal cost"
    )
    assert summary("digits", []) == "digits: no operating point yet"


def test_the_summary_speaks_of_the_cost_that_the_study_minimises():
    assert summary("digits", front(CLOUD), cost=MACS_P95).endswith("95.0 % at 8.00 M MACs")


def test_a_point_beats_the_baselines_only_if_it_is_better_than_all_that_cost_no_more():
    assert beats_baselines(point(0.81, 2e6), BASELINES)
    assert not beats_baselines(point(0.80, 2e6), BASELINES)
    assert not beats_baselines(point(0.95, 6e6), BASELINES)
    # cheaper than every baseline: it must reach one of them
    assert beats_baselines(point(0.80, 1e6), BASELINES)
    assert not beats_baselines(point(0.79, 1e6), BASELINES)


def test_a_point_is_compared_at_the_cost_that_is_asked_for():
    spiky = point(0.81, 1.9e6, macs_p95=2e7)
    assert beats_baselines(spiky, BASELINES)
    assert not beats_baselines(spiky, BASELINES, MACS_P95)


def test_the_accuracy_of_always_answering_the_largest_class_is_told_and_drawn():
    assert about(CLOUD, 0.5, 0.983).endswith("; always answering the largest class: 98.3 %")
    assert "largest class" not in about(CLOUD, 0.5)
    html = page(CLOUD, majority=0.983)
    assert embedded(html)["majority"] == 0.983
    assert "always answering the largest class: 98.3 %" in html
    assert "majority" not in embedded(page(CLOUD))
    assert picture(CLOUD, majority=0.983) != picture(CLOUD)


@pytest.mark.parametrize(("share", "told"), [(0.98, 0.98), (0.6, None), (None, None)])
def test_it_is_told_only_where_it_says_more_than_guessing(share, told, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'd.db'}")
    record = store.add_study("s", {}, "", {"accuracy": 0.5})
    if share is not None:
        store.set_data("s", {"majority": share})
    assert study_majority(store, record) == told
