"""The front as a plotly figure has what the picture has."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import dynafront
from dynafront.figure import front_figure
from search.front.offer import offer_of
from search.front.pareto import front
from search.front.within import Bounds
from search.objectives import MACS, MACS_P95
from search.report.canvas import BASELINE, FRONT
from storage.records import Kind, PointRecord
from tests import points

PARAMS = {"backbone": "resnet8", "width": 0.5}


def point(accuracy: float, macs: float, trial: int = 0, **more: Any) -> PointRecord:
    return points.point(accuracy, macs, trial, params=PARAMS, family="gated_resnet", **more)


CLOUD = [point(0.6, 3e6, 1), point(0.7, 1e6, 2), point(0.9, 2e6, 3), point(0.95, 4e7, 4)]
BASELINES = [
    points.point(
        accuracy,
        macs,
        0,
        kind=Kind.BASELINE,
        family="gated_resnet",
        params={**PARAMS, "gated": False},
    )
    for accuracy, macs in ((0.65, 2e6), (0.92, 5e7))
]


def drawn(**more: Any) -> Any:
    given = {"front": front(CLOUD), "baselines": BASELINES, "hypervolume": 0.5}
    return front_figure("digits", CLOUD, **{**given, **more})


def trace(figure: Any, name: str) -> Any:
    (found,) = (one for one in figure.data if (one.name or "").startswith(name))
    return found


def test_it_shows_front_baselines_intervals_and_the_points_behind() -> None:
    figure = drawn()
    members = trace(figure, "front")
    assert list(members.x) == [1e6, 2e6, 4e7]
    assert list(members.y) == [0.7, 0.9, 0.95]
    low = [y - below for y, below in zip(members.y, members.error_y.arrayminus, strict=True)]
    assert low == pytest.approx([p.accuracy_low for p in front(CLOUD)])
    assert set(members.marker.symbol) == {"circle"}
    assert members.marker.color == FRONT
    static = trace(figure, "baselines")
    assert list(static.x) == [2e6, 5e7]
    assert set(static.marker.symbol) == {"diamond"}
    assert static.marker.color == BASELINE
    assert list(trace(figure, "other operating points").x) == [3e6]
    assert figure.data[0].name == "other operating points"  # behind all others


def test_it_says_what_the_picture_says() -> None:
    figure = drawn()
    assert "digits: 3 points on the front" in figure.layout.title.text.replace("<br>", " ")
    assert "hypervolume 0.500" in figure.layout.title.subtitle.text
    assert figure.layout.xaxis.type == "log"
    assert "MACs" in figure.layout.xaxis.title.text
    assert trace(figure, "efficient").name.startswith("efficient pick: 9")
    hover = trace(figure, "front").text[1]
    assert "90.00%" in hover.replace(" %", "%")
    assert "gated_resnet resnet8 x0.5" in hover
    assert hover.startswith("<b>trial 3: 9")
    assert "<br>2.00 M MACs<br>" in hover


def test_it_rings_the_point_within_the_budget_of_the_study_s_file() -> None:
    within = offer_of(front(CLOUD), BASELINES, MACS, Bounds(max_macs=1.5e6))
    ring = trace(drawn(offer=within), "efficient pick of at most 1.50 M MACs: 70.0 %")
    assert (list(ring.x), list(ring.y)) == ([1e6], [0.7])
    nothing = offer_of(front(CLOUD), BASELINES, MACS, Bounds(max_macs=1e3))
    assert not [one for one in drawn(offer=nothing).data if "efficient" in (one.name or "")]


def test_always_the_largest_class_is_a_line_within_the_axis() -> None:
    figure = drawn(majority=0.3)
    (line,) = figure.layout.shapes
    assert line.y0 == line.y1 == 0.3
    assert line.showlegend
    assert figure.layout.yaxis.range[0] < 0.3
    assert not drawn().layout.shapes


def test_it_follows_the_cost_that_the_study_minimises() -> None:
    bumpy = [point(0.7, 1e6, 1, macs_p95=9e6), point(0.9, 2e6, 2, macs_p95=3e6)]
    members = front(bumpy, (MACS_P95,))
    figure = front_figure("s", bumpy, front=members, hypervolume=0.5, cost=MACS_P95)
    assert list(trace(figure, "front").x) == [3e6]
    assert list(trace(figure, "other").x) == [9e6]


def test_a_study_without_points_is_an_empty_figure() -> None:
    figure = front_figure("digits", [], front=[], hypervolume=0.0)
    assert len(figure.data) == 0
    assert "no operating point yet" in figure.layout.title.text


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match="plotly is not installed: pip install plotly nbformat"):
        drawn()


@pytest.mark.slow
def test_a_stored_study_is_drawn(here: Any) -> None:
    study = dynafront.study("tiny")
    figure = study.plot()
    assert list(trace(figure, "front").y) == study.front()["accuracy"].tolist()
    assert len(trace(figure, "baselines").x) > 0
