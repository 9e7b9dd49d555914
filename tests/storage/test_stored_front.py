"""The front that is found from a few numbers of each stored point is the front of their whole records."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from sqlalchemy import text

from search.commands.status import statuses
from search.front import stored_points
from search.front.stored import study_front
from storage.records import Kind, OperatingPoint, PointRecord
from storage.store import Store
from tests.points import operating_point

KNOBS: tuple[dict[str, Any], ...] = (
    {"policy": "threshold", "tau": 0.5},
    {"tau": 0.25},
    {"policy": "stochastic"},
    {"order": "arbitrary"},
)
LATENCIES: tuple[dict[str, float], ...] = (
    {"latency_mean": 1.5},
    {"latency_mean": nan},
    {"latency_mean": inf},
    {},
)
KINDS = (Kind.SEARCH, Kind.SEARCH, Kind.BASELINE, Kind.FINALIST, Kind.CASCADE)


def made_up(draw: random.Random) -> OperatingPoint:
    """Few different numbers, so that many are equal; a random one is often better than the others."""
    knobs, accuracy = draw.choice(KNOBS), draw.randrange(12) / 12
    lucky = 0.05 * (knobs.get("policy") == "stochastic")
    extra: dict[str, Any] = (
        {"rates": {"gate": [draw.random()]}}
        | draw.choice(LATENCIES)
        | {"latency_p95": draw.random()}
    )
    return operating_point(
        min(1.0, accuracy + lucky),
        draw.randrange(1, 9) * 1e5,
        parameters=draw.randrange(5),
        knobs=knobs,
        extra=extra,
        right=bytes([draw.randrange(256)]),
    )


def study(store: Store, objectives: list[str], trials: int = 60) -> None:
    families = ["gated_resnet", "multi_exit"]
    spec = {"families": families, "objectives": ["accuracy", *objectives], "budget": {"trials": 9}}
    reference = {"accuracy": 0.2, "macs": 1e6, "parameters": 9, "latency": 2.0}
    store.add_study("digits", spec, "", reference)
    draw = random.Random(str(objectives))
    for number in range(trials):
        name = "digits", draw.choice(KINDS), number
        store.add_trial(*name, draw.choice(families), {}, 0, 3)
        points = [made_up(draw) for _ in range(draw.randrange(6))]
        if draw.random() < 0.9:
            store.finish_trial(*name, points=points, result={}, seconds=1.0)


def told(points: Sequence[PointRecord]) -> str:
    """All of the points, as text: NaN is not equal to itself."""
    return repr([(p, p.right) for p in points])


def without_rates(points: Sequence[PointRecord]) -> list[PointRecord]:
    """The points, the rest of `extra` in the order of its names: PostgreSQL has one of its own."""
    rest = [{k: v for k, v in sorted(p.extra.items()) if k != "rates"} for p in points]
    return [replace(p, extra=extra) for p, extra in zip(points, rest, strict=True)]


@pytest.mark.parametrize(
    "objectives",
    [[], ["macs"], ["macs_p95", "parameters"], ["latency"], ["macs", "latency_p95"]],
    ids=lambda names: " and ".join(names) or "accuracy alone",
)
@pytest.mark.parametrize("latest", [1, 20, 100])
def test_it_is_the_front_of_all_records(
    store: Store, objectives: list[str], latest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_points, "LATEST", latest)
    study(store, objectives)
    record, known = store.study("digits"), store.points("digits")
    for family in (None, "multi_exit"):
        for cascades in (True, False):
            found = study_front(store, record, family, cascades=cascades)
            whole = study_front(store, record, family, cascades=cascades, known=known)
            assert whole.members
            assert whole.volume == found.volume > 0
            for name in ("members", "baselines"):
                assert told(getattr(found, name)) == told(getattr(whole, name))
            assert all("rates" not in p.extra for p in found.points)
            assert told(without_rates(found.points)) == told(without_rates(whole.points))


def test_a_study_without_points_has_an_empty_front(store: Store) -> None:
    study(store, ["macs"], trials=0)
    front = study_front(store, store.study("digits"))
    assert (front.members, front.points, front.baselines, front.volume) == ([], [], [], 0.0)


def test_no_status_and_no_front_reads_the_records_of_all_points(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 5,000 trials they take 600 MB and most of the time."""
    study(store, ["macs"])
    read, points = list[Any](), store.points

    def counted(*of: Any, **more: Any) -> list[PointRecord]:
        read.append(more)
        return points(*of, **more)

    monkeypatch.setattr(store, "points", counted)
    (one,) = statuses(store, "digits")
    assert one["front"]["points"] == len(study_front(store, store.study("digits")).members) > 0
    assert {more.get("kind") for more in read} == {Kind.BASELINE}


def test_a_front_finds_what_it_compares_in_an_index(digits: Store) -> None:
    """Rows of points are large: to read 150,000 of them takes longer than all else that a command does."""
    plan = "EXPLAIN QUERY PLAN SELECT id, accuracy FROM dynafront_point WHERE trial_id = 1"
    with digits._database.reading() as connection:
        if connection.dialect.name == "sqlite":
            (step,) = connection.execute(text(plan))
            assert "USING COVERING INDEX ix_dynafront_point_values" in step.detail
