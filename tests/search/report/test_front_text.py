"""What is said of a front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search.front.offer import offer_of
from search.front.pareto import front
from search.front.stored import study_majority
from search.front.within import Bounds
from search.objectives import MACS, MACS_P95
from search.report.front_note import note
from search.report.front_page import front_html
from search.report.front_plot import front_png
from search.report.front_strip import front_strip_png
from search.report.front_text import Standing, about, equal_offer, offer_text, standing, summary
from storage.store import Store
from tests.search.report.fronts import BASELINES, CLOUD, embedded, page, picture, point


def test_the_summary_counts_the_points_that_the_baselines_do_not_match():
    members = front(CLOUD)
    assert (
        summary("digits", members, BASELINES)
        == "digits: 3 points on the front, 2 beat every baseline of equal cost, 1 cheaper than any baseline"
    )
    assert (
        summary("digits", members) == "digits: 3 points on the front, up to 95.0 % at 4.00 M MACs"
    )
    assert (
        summary("digits", members[:1], BASELINES)
        == "digits: 1 point on the front, none beats the baselines of equal cost, 1 cheaper than any baseline"
    )
    assert summary("digits", []) == "digits: no operating point yet"


def test_on_a_few_images_two_more_right_answers_beat_nothing():
    """24 validation images: 22 right answers against 20, of a baseline that costs as much."""
    wilson_of = {22: (0.742, 0.977), 20: (0.641, 0.933)}
    few = [
        point(n / 24, macs, accuracy_low=wilson_of[n][0], accuracy_high=wilson_of[n][1], kind=kind)
        for n, macs, kind in ((22, 2e6, "search"), (20, 2e6, "static"))
    ]
    assert (
        summary("few", few[:1], few[1:])
        == "few: 1 point on the front, none beats the baselines of equal cost, 1 as good"
    )


def test_the_summary_speaks_of_the_cost_that_the_study_minimises():
    assert summary("digits", front(CLOUD), cost=MACS_P95).endswith("95.0 % at 8.00 M MACs")


def test_a_point_beats_the_baselines_only_if_it_is_significantly_better_than_all_that_cost_no_more():
    assert standing(point(0.82, 2e6), BASELINES) is Standing.AHEAD
    assert standing(point(0.81, 2e6), BASELINES) is Standing.LEVEL
    assert standing(point(0.95, 6e6), BASELINES) is Standing.LEVEL
    assert standing(point(0.9, 6e6), BASELINES) is Standing.BEHIND
    assert standing(point(0.99, 1e6), BASELINES) is Standing.CHEAPER


def test_a_point_is_compared_at_the_cost_that_is_asked_for():
    spiky = point(0.85, 2.1e6, macs_p95=2e7)
    assert standing(spiky, BASELINES) is Standing.AHEAD
    assert standing(spiky, BASELINES, MACS_P95) is Standing.BEHIND


def test_the_same_images_tell_apart_what_intervals_cannot():
    """Seven images that only one of two answers rightly, out of 80."""
    ours, theirs = bytes([0xFF] * 10), bytes([0x01] + [0xFF] * 9)
    known = [
        point(accuracy, 1e6, accuracy_low=accuracy - 0.1, accuracy_high=accuracy, right=right)
        for accuracy, right in ((1.0, ours), (73 / 80, theirs))
    ]
    assert standing(known[0], known[1:]) is Standing.AHEAD
    unknown = [replace(p, right=None) for p in known]
    assert standing(unknown[0], unknown[1:]) is Standing.LEVEL


def offered(members, **budget):
    return offer_text(offer_of(members, [], MACS, Bounds(**budget)))


def test_what_is_offered_is_within_the_budget_of_the_study_s_file():
    assert offered(front(CLOUD), max_macs=3e6) == (
        "efficient pick of at most 3.00 M MACs: 90.0 % at 2.00 M MACs (trial 1)"
    )
    assert offered(front(CLOUD), max_macs=1e3) == "no point costs at most 1.00 k MACs"
    within = offer_of(front(CLOUD), [], MACS, Bounds(max_macs=3e6))
    shown = {"front": front(CLOUD), "hypervolume": 0.5, "offer": within}
    assert "efficient pick of at most 3.00 M MACs" in front_html("s", CLOUD, **shown)
    text = note("s", CLOUD, front(CLOUD), run_id="r", links={}, offer=within)
    assert "efficient pick of at most 3.00 M MACs: 90.0 %" in text
    nothing = offer_of(front(CLOUD), [], MACS, Bounds(max_macs=1e3))
    offers = [None, within, nothing]
    plots = {front_png("s", CLOUD, **shown | {"offer": one}) for one in offers}
    strips = {front_strip_png(CLOUD, front=front(CLOUD), offer=one) for one in offers}
    assert len(plots) == len(strips) == 3


def test_what_is_offered_is_the_efficient_point():
    assert offered([]) == ""
    assert offered(front(CLOUD)) == "efficient pick: 95.0 % at 4.00 M MACs (trial 2)"
    assert offered([*front(CLOUD), point(0.955, 9e6, 7)]).endswith("at 4.00 M MACs (trial 2)")
    for shown in (page(CLOUD), note("s", CLOUD, front(CLOUD), run_id="r", links={})):
        assert "efficient pick: 95.0 % at 4.00 M MACs (trial 2)" in shown
    assert "`dynafront export s`" in note("s", CLOUD, front(CLOUD), run_id="r", links={})


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


def test_the_point_that_keeps_the_best_static_accuracy_is_offered():
    static = point(0.80, 4e6, 3, kind="static", accuracy_low=0.79, accuracy_high=0.81)
    ahead = point(0.85, 1e6, 1, accuracy_low=0.84, accuracy_high=0.86)
    behind = point(0.79, 5e5, 2, accuracy_low=0.78, accuracy_high=0.80)
    assert equal_offer([behind, ahead], [static]) == (
        "equal pick: 85.0 % at 1.00 M MACs (trial 1): keeps the accuracy of the best static network, "
        "80.0 % at 4.00 M MACs (baseline 3), for 0.25 of the cost"
    )
    assert equal_offer([behind], [static]) == (
        "equal pick: none is known to keep the accuracy of the best static network, "
        "80.0 % at 4.00 M MACs (baseline 3)"
    )
    assert equal_offer([behind], []) == equal_offer([], [static]) == ""


def test_what_choosing_thresholds_flatters_beats_nothing():
    """1,000 images: 30 more right answers than the baseline's, which four points of flattery make nothing of."""
    right = {
        name: np.packbits(np.arange(1000) < n).tobytes()
        for name, n in (("own", 780), ("other", 750))
    }
    static = point(0.75, 2e6, kind="static", right=right["other"])
    plain = point(0.78, 2e6, right=right["own"])
    assert summary("s", [plain], [static]).endswith("1 beats every baseline of equal cost")
    flattered = replace(plain, extra={"selection_bias": 0.04})
    assert summary("s", [flattered], [static]).endswith(
        "none beats the baselines of equal cost, 1 as good"
    )
