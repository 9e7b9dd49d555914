"""Points, fronts and what is made of them, for the tests of this folder."""

from __future__ import annotations

import json
import re
from typing import Any

from search.front.pareto import front
from search.report.front_page import front_html
from search.report.front_plot import front_png
from storage.records import Kind, PointRecord
from tests import points


def point(accuracy: float, macs: float, trial: int = 0, **more: Any) -> PointRecord:
    nested = {"backbone": "resnet20", "gates": {"target": 0.5}}
    return points.point(accuracy, macs, trial, **{"params": nested, **more})


def plain(accuracy: float, macs: float) -> PointRecord:
    return point(accuracy, macs, 1000, kind=Kind.BASELINE, knobs={}, family="resnet")


def rising(count: int) -> list[PointRecord]:
    """Points that are all on the front, of three a trial."""
    return [
        point(
            0.5 + 0.45 * i / count,
            1e5 * 1.01**i,
            i // 3,
            id=i,
            run_id=f"{i:032x}",
            knobs={"tau": i / count},
        )
        for i in range(count)
    ]


def page(
    points: list[PointRecord],
    *,
    study: str = "digits",
    baselines: tuple[PointRecord, ...] = (),
    **more: Any,
) -> str:
    return front_html(
        study,
        points,
        front=front(p for p in points if p.kind == "search"),
        baselines=baselines,
        hypervolume=0.5,
        **more,
    )


def picture(
    points: list[PointRecord],
    *,
    study: str = "digits",
    baselines: tuple[PointRecord, ...] = (),
    **more: Any,
) -> bytes:
    return front_png(
        study, points, front=front(points), baselines=baselines, hypervolume=0.5, **more
    )


def embedded(html: str) -> dict:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert match is not None

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON for a browser")

    return json.loads(match[1], parse_constant=refuse)


CLOUD = [
    point(0.7, 1e6, 1),
    point(0.9, 2e6, 1),
    point(0.95, 4e6, 2),
    point(0.6, 3e6, 2),
    point(0.8, 3e6, 3),
]


BASELINES = (plain(0.8, 2e6), plain(0.96, 5e6))
