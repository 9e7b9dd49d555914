"""The front as one interactive page: chart and table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from math import isfinite
from typing import Any

from search.front.formats import leaves
from search.front.metric import metric_of
from search.front.offer import Offer, offer_of
from search.objectives import MACS, Cost
from search.report.front_points import lowest_accuracy, points_to_draw, thinned
from search.report.front_text import about, offer_text, summary
from search.report.text import readable_knobs
from storage.records import PointRecord

PAGE_POINTS = 3_000  # more make the page slow and large; those of the front are always all there
COLUMNS = ("macs", "macs_p95", "macs_max", "parameters")  # costs that the page's table has


def front_html(
    study: str,
    points: Sequence[PointRecord],
    *,
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord] = (),
    hypervolume: float,
    cost: Cost = MACS,
    majority: float | None = None,
    offer: Offer | None = None,
) -> str:
    """A page that needs nothing but itself, and works in a sandboxed frame: chart and table of the front.

    `cost` is what the study minimises: the x axis, and what the front is a front of. `majority`, what always answering
    the largest class has, is a dotted line. `offer` is what the study offers, by default the cheapest point that is as
    good as the best.
    """
    offer = offer or offer_of(front, baselines, cost)
    cloud, front, baselines = points_to_draw(points, front, baselines, cost)
    shown = thinned(cloud, PAGE_POINTS)
    text = about(points, hypervolume, majority)
    if len(shown) < len(cloud):
        text += f"; {len(shown):,} of the {len(cloud):,} points off the front are drawn"
    if front:
        text += f"; {offer_text(offer, cost)}"
    parts = {
        "title": escape(summary(study, front, baselines, cost=cost)),
        "about": escape(text),
        "metric": escape(metric_of([*front, *baselines, *cloud]).label),
        "data": _embedded(shown, front, baselines, cost, majority),
    }
    page = files("search.report").joinpath("front_page.html").read_text(encoding="utf-8")
    return re.sub("@(title|about|metric|data)@", lambda match: parts[match[1]], page)


def _embedded(
    cloud: Sequence[PointRecord],
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord],
    cost: Cost,
    majority: float | None,
) -> str:
    """JSON that can stand inside a script element; what points share is written once."""
    configs: dict[str, int] = {}
    knobs: dict[str, int] = {}

    def index(known: dict[str, int], value: Any) -> int:
        return known.setdefault(json.dumps(value, default=str), len(known))

    shown = [
        (role, p)
        for role, members in (("cloud", cloud), ("plain", baselines), ("front", front))
        for p in members
    ]
    rows = [
        [
            index(configs, {"family": p.family, "params": _plain(p.params)}),
            *(p.name, round(p.accuracy, 5), round(p.accuracy_low, 5), round(p.accuracy_high, 5)),
            *(round(v) for v in (p.macs_mean, p.macs_p95, p.macs_max, p.parameters)),
            *(index(knobs, _plain(readable_knobs(p.knobs))), p.id, role),
        ]
        for role, p in shown
    ]
    known = f'"configs":[{",".join(configs)}],"knobs":[{",".join(knobs)}]'
    metric = metric_of(p for _, p in shown)
    view = f'"metric":"{metric.label}","always":"{metric.always}","cost":"{cost.name}","axis":"{cost.label}"'
    view += f',"floor":{lowest_accuracy(cloud, front, baselines):.5f}'
    if cost.name not in COLUMNS:  # the page has no column for it: where points stand is told apart
        view += (
            f',"costs":{json.dumps([round(cost.of(p), 6) for _, p in shown])},"least":{cost.least}'
        )
    if majority is not None:
        view += f',"majority":{majority:.5f}'
    text = f'{{{view},{known},"points":{json.dumps(rows, separators=(",", ":"))}}}'
    # "</script>" in a name would end the element
    return text.replace("<", "\\u003c")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """One level of settings that every JSON reader takes: NaN and infinity become text."""
    return {
        k: str(v) if isinstance(v, float) and not isfinite(v) else v
        for k, v in leaves(values).items()
    }
