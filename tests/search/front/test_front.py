"""Fronts, hypervolumes and picks, by hand and against brute force."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.front.formats import as_csv, as_json
from search.front.pareto import front, hypervolume, hypervolume_history
from search.front.pick import pick
from search.objectives import MACS_P95, PARAMETERS, Reference, macs_number, macs_text
from storage.records import PointRecord
from tests.points import point
from trainers.significance import wilson

BOX = Reference(accuracy=0.1, macs=100.0)


clouds = st.lists(
    # a coarse grid makes ties and duplicates common
    st.builds(
        lambda a, m, t: point(a / 10, m * 10.0, t),
        st.integers(0, 10),
        st.integers(1, 12),
        st.integers(0, 5),
    ),
    max_size=25,
)


def beats(p: PointRecord, q: PointRecord) -> bool:
    no_worse = p.accuracy >= q.accuracy and p.macs_mean <= q.macs_mean
    return no_worse and (p.accuracy, p.macs_mean) != (q.accuracy, q.macs_mean)


@given(clouds)
def test_the_front_is_what_comparing_all_pairs_leaves(points):
    expected = {(p.macs_mean, p.accuracy) for p in points if not any(beats(q, p) for q in points)}
    assert [(p.macs_mean, p.accuracy) for p in front(points)] == sorted(expected)


def test_of_equal_points_the_first_stays():
    assert [p.trial for p in front([point(0.9, 10, 4), point(0.9, 10, 2)])] == [4]


def test_the_front_can_be_drawn_over_another_cost():
    small, large = point(0.9, 10, macs_p95=50), point(0.8, 20, macs_p95=20)
    assert front([small, large]) == [small]
    assert front([small, large], (MACS_P95,)) == [large, small]


def test_a_point_that_is_not_finite_is_left_out():
    assert front([point(float("nan"), 1), point(0.5, 10), point(0.9, float("inf"))]) == [
        point(0.5, 10)
    ]
    assert hypervolume([point(float("nan"), 1)], reference=BOX) == 0


def test_a_hypervolume_worked_out_by_hand():
    # in the scaled box: costs 0.2 and 0.5, errors 0.5 and 0.25
    points = [point(0.55, 20), point(0.775, 50), point(0.5, 60)]
    assert hypervolume(points, reference=BOX) == pytest.approx(0.3 * 0.5 + 0.5 * 0.75)
    assert hypervolume([point(1.0, 0)], reference=BOX) == 1
    assert hypervolume([], reference=BOX) == 0


def test_points_beyond_the_reference_add_nothing():
    assert hypervolume([point(0.05, 1), point(0.99, 100), point(0.99, 500)], reference=BOX) == 0


def counted(points: list[PointRecord]) -> float:
    """Hypervolume in the grid of `clouds`, by counting its cells."""
    cells = 0
    for macs in range(10):
        for accuracy in range(1, 10):
            cells += any(
                p.macs_mean <= macs * 10 and p.accuracy * 10 >= accuracy + 0.99 for p in points
            )
    return cells / 90


@given(clouds)
def test_the_hypervolume_is_what_counting_cells_gives(points):
    assert hypervolume(points, reference=BOX) == pytest.approx(counted(points))


@given(clouds)
def test_the_history_is_the_hypervolume_of_each_prefix_and_can_be_resumed(points):
    points = sorted(points, key=lambda p: p.trial)
    history = hypervolume_history(points, reference=BOX)
    assert [trial for trial, _, _ in history] == sorted({p.trial for p in points})
    for trial, volume, size in history:
        seen = [p for p in points if p.trial <= trial]
        assert volume == pytest.approx(hypervolume(seen, reference=BOX))
        assert size == len(front(seen))
    early, late = [p for p in points if p.trial < 3], [p for p in points if p.trial >= 3]
    resumed = hypervolume_history(late, reference=BOX, known=front(early))
    assert hypervolume_history(early, reference=BOX) + resumed == history


def test_one_more_trial_is_cheap_after_a_thousand():
    known = [point(0.1 + i / 2000, 1 + i / 20, i) for i in range(1000)]
    added = [point(0.1 + i / 40, 1 + i, 1000) for i in range(30)]
    start = perf_counter()
    hypervolume_history(added, reference=BOX, known=known)
    assert perf_counter() - start < 0.2  # measured 2 ms; the margin is for a busy machine


@pytest.mark.parametrize(
    ("accuracy", "macs"), [(1.0, 10.0), (-0.1, 10.0), (0.1, 0.0), (0.1, float("nan"))]
)
def test_an_impossible_reference_is_refused(accuracy, macs):
    with pytest.raises(ValueError, match=r"reference (accuracy|macs) .* give the"):
        Reference(accuracy=accuracy, macs=macs)


CURVE = [
    point(0.5, 1e5, 1),
    point(0.9, 1e6, 2),
    point(0.92, 1e7, 3),
    point(0.94, 1e8, 4),
    point(0.3, 1e7, 5),
]


def test_the_rules_pick_knee_best_and_fastest():
    assert pick(CURVE, "knee").trial == 2
    assert pick(CURVE, "best").trial == 4
    assert pick(CURVE, "fastest").trial == 1
    assert pick([*CURVE, point(0.94, 9e7, 6)], "best").trial == 6


def test_the_knee_does_not_depend_on_the_unit_of_cost():
    assert pick([point(p.accuracy, p.macs_mean * 1024, p.trial) for p in CURVE], "knee").trial == 2


def test_a_front_without_a_bend_gives_its_best():
    assert pick(CURVE[:2], "knee").trial == 2
    assert pick([point(0.5, 1e5, 1), point(0.51, 5e6, 2), point(0.9, 1e7, 3)], "knee").trial == 3
    assert pick([point(0.1, 1, 1), point(0.2, 2, 2), point(0.3, 3, 3)], "knee").trial == 3


def test_a_jump_at_the_cheap_end_is_not_the_knee():
    jump = [
        (0.10, 0.68e6),
        (0.33, 0.7e6),
        (0.415, 4.2e6),
        (0.483, 7.8e6),
        (0.522, 12.5e6),
        (0.549, 26.7e6),
    ]
    assert pick([point(a, c, i) for i, (a, c) in enumerate(jump)], "knee").trial == 3


def test_points_nobody_would_ship_do_not_move_the_knee():
    useful = [point(0.60, 1e4, 2), point(0.90, 5e4, 3), point(0.95, 2e5, 4), point(0.98, 2e6, 5)]
    assert pick(useful, "knee").trial == pick([point(0.18, 3e3, 1), *useful], "knee").trial == 4


def measured(right: int, macs: float, trial: int, images: int = 360) -> PointRecord:
    """A point that answers the first of the images rightly."""
    low, high = wilson(right / images, images)
    bits = np.packbits([1] * right + [0] * (images - right)).tobytes()
    return point(right / images, macs, trial, accuracy_low=low, accuracy_high=high, right=bits)


def test_without_a_rule_the_cheapest_point_that_is_as_good_as_the_best_is_picked():
    points = [measured(323, 50e3, 1), measured(351, 68e3, 2), measured(354, 200e3, 3)]
    assert pick(points, "knee").trial == 2
    assert pick(points).trial == pick(points, "efficient").trial == 2
    assert pick([*points, measured(360, 1e6, 4)]).trial == 4, "nine images better is significant"


def test_within_one_point_is_as_good_even_where_it_is_significant():
    many = [measured(9_500, 1e5, 1, 10_000), measured(9_600, 1e6, 2, 10_000)]
    assert pick(many).trial == 1
    assert pick([measured(9_499, 1e5, 1, 10_000), many[1]]).trial == 2


def test_what_cannot_be_told_apart_is_as_good_unless_it_is_ten_points_worse():
    assert pick([measured(20, 1e5, 1, 24), measured(22, 1e6, 2, 24)]).trial == 1
    assert pick([measured(18, 1e5, 1, 24), measured(22, 1e6, 2, 24)]).trial == 2


def test_accuracy_is_not_given_away_for_next_to_no_cost():
    points = [measured(137, 193e3, 1, 144), measured(141, 194e3, 2, 144)]
    assert pick(points).trial == 2
    assert pick([points[0], measured(141, 230e3, 2, 144)]).trial == 1


def test_points_of_older_studies_are_compared_by_their_intervals():
    old = [replace(p, right=None) for p in (measured(340, 1e5, 1), measured(350, 1e6, 2))]
    assert pick(old).trial == 1
    assert pick([replace(measured(323, 1e5, 1), right=None), old[1]]).trial == 2


def test_limits_apply_before_the_rule():
    assert pick(CURVE, "best", max_macs=2e7).trial == 3
    assert pick(CURVE, "fastest", min_accuracy=0.91).trial == 3
    assert pick(CURVE, "best", max_macs=1e6, min_accuracy=0.9).trial == 2


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"min_accuracy": 0.99},
            r"^no point has accuracy >= 0\.99; the best has 0\.940 at 100 M MACs \(trial 4\)$",
        ),
        (
            {"max_macs": 10},
            r"^no point costs <= 10 MACs; the cheapest has accuracy 0\.500 at 100 k MACs \(trial 1\)$",
        ),
        (
            {"max_macs": 2e6, "min_accuracy": 0.91},
            r"^no point has accuracy >= 0\.91 at <= 2\.00 M MACs; "
            r"the nearest have 0\.900 at 1\.00 M MACs \(trial 2\) and 0\.920 at 10\.0 M MACs \(trial 3\)$",
        ),
        ({"min_accuracy": 95}, r"^min accuracy 95 is not between 0 and 1; write 0\.95 for 95 %$"),
        (
            {"rule": "fast"},
            r"^'fast' is not a way to pick; choose one of efficient, equal, best, fastest, knee$",
        ),
    ],
)
def test_an_impossible_wish_is_answered_with_what_there_is(limits, message):
    with pytest.raises(ValueError, match=message):
        pick(CURVE, **limits)


def test_a_limit_on_macs_is_one_on_macs_where_parameters_are_the_cost():
    small, fast = point(0.9, 5e7, 1, parameters=1000), point(0.92, 1e7, 2, parameters=2000)
    assert pick([small, fast], "fastest", cost=PARAMETERS).trial == 1
    assert pick([small, fast], "fastest", max_macs=2e7, cost=PARAMETERS).trial == 2
    with pytest.raises(
        ValueError, match=r"^no point costs <= 1\.00 M MACs; the cheapest has .* at 10\.0 M MACs"
    ):
        pick([small, fast], max_macs=1e6, cost=PARAMETERS)


def test_an_offer_never_looks_as_if_it_met_the_limit():
    with pytest.raises(ValueError, match=r"the best has 0\.989 at"):
        pick([point(0.98999, 10)], min_accuracy=0.99)


def test_picking_from_nothing_says_to_wait():
    with pytest.raises(ValueError, match="no point to pick from yet"):
        pick([])


@given(
    clouds,
    st.sampled_from(["efficient", "knee", "best", "fastest"]),
    st.integers(1, 12),
    st.integers(0, 10),
)
def test_a_pick_is_on_the_front_and_within_its_limits(points, rule, macs, accuracy):
    limits = {"max_macs": macs * 10.0, "min_accuracy": accuracy / 10}
    if any(
        p.macs_mean <= limits["max_macs"] and p.accuracy >= limits["min_accuracy"] for p in points
    ):
        chosen = pick(points, rule, **limits)
        assert chosen in front(points)
        assert chosen.macs_mean <= limits["max_macs"]
        assert chosen.accuracy >= limits["min_accuracy"]
    else:
        with pytest.raises(ValueError, match="no point"):
            pick(points, rule, **limits)


def test_the_json_has_exactly_the_promised_keys():
    found = json.loads(json.dumps(as_json("digits", [point(0.9, 10, 3, run_id="r", id=1)], 0.5)))
    assert found == {
        "study": "digits",
        "hypervolume": 0.5,
        "points": [
            {
                "point": 1,
                "trial": 3,
                "kind": "search",
                "family": "gated_resnet",
                "metric": "accuracy",
                "accuracy": 0.9,
                "accuracy_low": 0.89,
                "accuracy_high": 0.91,
                "top1": 0.9,
                "top5": None,
                "macs_mean": 10,
                "macs_p95": 20,
                "macs_max": 30,
                "parameters": 1000,
                "knobs": {"tau": 0.5},
                "params": {"backbone": "resnet20"},
            }
        ],
    }


def test_the_csv_gives_every_knob_and_parameter_a_column():
    one = point(0.9, 10, 1, params={"gates": {"target": 0.5}}, knobs={"exits": [0.5, 0.7]})
    rows = list(csv.DictReader(io.StringIO(as_csv([one, point(0.95, 20, 2, run_id="abc")]))))
    assert [row["param.gates.target"] for row in rows] == ["0.5", ""]
    assert [row["knob.exits"] for row in rows] == ["[0.5, 0.7]", ""]
    assert [row["knob.tau"] for row in rows] == ["", "0.5"]
    assert [row["run_id"] for row in rows] == ["", "abc"]
    assert [(row["trial"], row["accuracy"], row["macs_p95"]) for row in rows] == [
        ("1", "0.9", "20"),
        ("2", "0.95", "40"),
    ]


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        ("10M", 10_000_000),
        ("1.5 G", 1_500_000_000),
        ("500k", 500_000),
        ("500K MACs", 500_000),
        ("1.1m", 1_100_000),
        ("1e6", 1_000_000),
        (2.5e6, 2_500_000),
        (7, 7),
    ],
)
def test_a_number_of_macs_is_read_with_its_unit(text, macs):
    assert macs_number(text) == macs


@pytest.mark.parametrize("text", ["ten", "-5M", "5T", "", "nan", "M", "1e999", "0", "0.1"])
def test_what_is_not_a_number_of_macs_is_refused(text):
    with pytest.raises(ValueError, match=r"write it like 500k, 10M or 1\.5G$"):
        macs_number(text)


@pytest.mark.parametrize(
    ("macs", "text"),
    [
        (0, "0"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (1.2e6, "1.20 M"),
        (12.34e6, "12.3 M"),
        (999_999, "1.00 M"),
        (1e8, "100 M"),
        (4.1e9, "4.10 G"),
    ],
)
def test_a_number_of_macs_is_written_with_three_digits(macs, text):
    assert macs_text(macs) == text


@given(st.integers(1, 10**13))
def test_a_written_number_of_macs_reads_back_within_half_a_percent(macs):
    assert macs_number(macs_text(macs)) == pytest.approx(macs, rel=0.0051)
