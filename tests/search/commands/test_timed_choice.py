"""A point within a limit on latency is timed before it is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.commands import timed_choice
from search.commands.choice import Choice, chosen, expected_of, within_region
from search.commands.timed_choice import chosen_by_time
from search.export import timed_points
from search.export.limits import limit_rows, limit_texts
from search.front.offer import Offer
from search.front.stored import study_front
from search.objectives import LATENCY, LATENCY_P95, MACS, MACS_P95
from search.spec import parse_study
from storage.records import Kind, PointRecord, StudyRecord
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point

TEXT = (
    "study: s\ndata: digits\nfamilies: [gated_resnet]\nobjectives: [accuracy, latency]\nlatency: here.json\n"
    "budget: {trials: 6, epochs: 9}\n"
)
PREDICTED = {
    0: (0.6, 1.0),
    1: (0.7, 2.0),
    2: (0.8, 2.9),
    3: (0.85, 3.3),
    4: (0.9, 3.4),
    5: (0.95, 5.0),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six trials with a point each: the more accurate, the slower."""
    made = Store.open(f"sqlite:///{tmp_path / 's.sqlite'}")
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    made.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7, "latency": 9.0})
    for number, (accuracy, ms) in PREDICTED.items():
        own = [operating_point(accuracy, 1e6 * ms, extra={"latency_mean": ms})]
        made.add_trial("s", Kind.SEARCH, number, "gated_resnet", {}, 0, 9)
        made.finish_trial("s", Kind.SEARCH, number, points=own, result={}, seconds=1.0)
    return made


@pytest.fixture
def record(store: Store) -> StudyRecord:
    return store.study("s")


class Timer:
    """Measures what it is told, as often as it is asked; keeps in which order."""

    def __init__(self, store: Store, measured: Callable[[PointRecord], float | None]) -> None:
        self.store, self.measured = store, measured
        self.asked: list[int] = []

    def timed(self, p: PointRecord, say: Any, doing: Any) -> float | None:
        self.asked.append(p.trial)
        ms = self.measured(p)
        if ms is not None:
            self.store.add_timing(p.id, ms, 9.0)
        return ms


def picked(
    store: Store,
    record: StudyRecord,
    monkeypatch: pytest.MonkeyPatch,
    measured: Callable[[PointRecord], float | None],
    **choice: Any,
) -> tuple[int, list[int], list[str]]:
    """The trial of the point that is picked, the trials that were timed for it, and what was said."""
    timer, said = Timer(store, measured), list[str]()
    monkeypatch.setattr(timed_points.PointTimer, "of", lambda *a: timer)
    monkeypatch.setattr(timed_choice, "check_same_data", lambda *a: None)
    found = chosen_by_time(store, record, Settings(), Choice(**choice), said.append)
    return found.trial, timer.asked, said


def test_one_that_is_too_slow_when_timed_is_not_taken(
    store: Store, record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(store, record, Choice(max_latency_ms="3.5")).trial == 4

    def tenth_more(p: PointRecord) -> float:
        return 1.1 * LATENCY.of(p)

    trial, asked, said = picked(store, record, monkeypatch, tenth_more, max_latency_ms="3.5")
    assert (trial, asked) == (2, [4, 2]), "trial 3 would take 3.63 ms: it is not even timed"
    assert "3.4 ms predicted, 3.74 ms measured; the limit of 3.5 ms is not kept" in said[0]
    assert "2.9 ms predicted, 3.19 ms measured; the limit of 3.5 ms is kept" in said[1]
    assert chosen(store, record, Choice(max_latency_ms="3.5")).trial == 2, "what was timed counts"
    front = study_front(store, record)
    (point,) = [p for p in front.members if p.trial == 2]
    assert LATENCY.of(point) == 2.9, "the point is the stored one"
    expected_of(point, Choice(max_latency_ms="3.5"), front, record)


def test_one_that_the_table_thought_too_slow_is_taken_where_networks_are_faster(
    store: Store, record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, asked, _ = picked(
        store, record, monkeypatch, lambda p: 0.6 * LATENCY.of(p), max_latency_ms="3.5"
    )
    assert (trial, asked) == (5, [4, 5])


def test_where_none_keeps_the_limit_the_nearest_is_offered(
    store: Store, record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"no point costs <= 1.2 ms; the cheapest has .* 2 ms"):
        picked(store, record, monkeypatch, lambda p: 2 * LATENCY.of(p), max_latency_ms="1.2")


def test_nothing_is_timed_without_a_limit_or_where_it_cannot_be(
    store: Store, record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert picked(store, record, monkeypatch, lambda p: 1.0)[1] == []
    assert picked(store, record, monkeypatch, lambda p: 1.0, max_macs="2M")[1] == []
    trial, asked, _ = picked(store, record, monkeypatch, lambda p: None, max_latency_ms="3.5")
    assert (trial, asked) == (4, [4]), "a network that cannot be read keeps its prediction"
    monkeypatch.undo()
    said = list[str]()
    found = chosen_by_time(store, record, Settings(), Choice(max_latency_ms="3.5"), said.append)
    assert found.trial == 4
    assert said[0].startswith("latencies are as predicted, not measured: here.json: cannot be")


def test_limits_are_on_the_measure_that_the_study_minimises() -> None:
    both = Choice(max_macs="2M", max_latency_ms="3.5 ms", min_accuracy=0.8)
    assert both.bounds.by_column(LATENCY) == {
        "macs_mean": 2e6,
        "latency_mean": 3.5,
        "accuracy": 0.8,
    }
    assert both.bounds.by_column(MACS_P95) == {
        "macs_p95": 2e6,
        "latency_mean": 3.5,
        "accuracy": 0.8,
    }
    assert both.bounds.by_column(LATENCY_P95)["latency_p95"] == 3.5
    assert Choice().bounds.by_column(MACS) == {}


def test_an_export_says_whether_the_limits_were_kept() -> None:
    limits = {"macs_mean": 2e6, "latency_mean": 3.5, "accuracy": 0.8}
    report = {
        "validation": {"limits": limits},
        "test": {"macs_mean": 1.9e6, "accuracy": 0.79},
        "predicted": {"measured_ms": 3.68},
    }
    assert list(limit_texts(report)) == [
        "at most 2.00 M MACs asked for: 1.90 M MACs measured",
        "at most 3.5 ms asked for: 3.68 ms measured, 5.1% over it",
        "accuracy of at least 80.00% on validation asked for: 79.00% on test, short of it",
    ]
    assert [name for name, _ in limit_rows(report)] == ["limit"] * 3
    unknown = report | {"predicted": {"why": "another machine"}}
    assert "at most 3.5 ms asked for: not measured here" in list(limit_texts(unknown))
    assert list(limit_texts({"validation": {}, "test": {}})) == []


def test_the_budget_of_the_study_s_file_holds_where_nothing_else_was_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{TEXT}region: {{max_latency_ms: 3.2 ms}}\n"
    store.set_spec("s", parse_study(text, "s").model_dump(mode="json"), text)
    record = store.study("s")
    assert chosen(store, record, Choice(pick="best")).trial == 5
    assert chosen(store, record, Choice(max_latency_ms="3.3")).trial == 3
    assert chosen(store, record, Choice()).trial == 2
    held = within_region(Choice(), record)
    assert (held.rule, held.max_latency_ms, held.max_macs) == (Choice().rule, "3.2", None)
    front = study_front(store, record)
    assert front.offer.within == "at most 3.2 ms"
    assert front.offer.point is not None
    assert front.offer.point.trial == 2, "pages and pictures point out what plain export takes"
    trial, asked, said = picked(store, record, monkeypatch, lambda p: 1.2 * LATENCY.of(p))
    assert (trial, asked) == (1, [2, 1])
    timed = study_front(store, record).offer.point
    assert timed is not None
    assert timed.trial == 1
    assert "the limit of 3.2 ms is not kept" in said[0]
    none = replace(record, spec=record.spec | {"region": {}})
    assert within_region(Choice(), none) == Choice()
    tight = replace(record, spec=record.spec | {"region": {"max_latency_ms": 0.5}})
    with pytest.raises(ValueError, match="the study's file has this limit as `region`: --pick eff"):
        chosen(store, tight, Choice())
    assert study_front(store, tight).offer == Offer(None, "at most 0.5 ms")
    assert study_front(store, none).offer.point == chosen(store, none, Choice())


def test_a_budget_in_macs_of_the_file_holds_too(store: Store, record: StudyRecord) -> None:
    other = replace(record, spec=record.spec | {"region": {"max_macs": 2e6, "min_accuracy": 0.9}})
    assert within_region(Choice(family="gated_resnet"), other).max_macs == "2M"
    assert within_region(Choice(min_accuracy=0.5), other).max_macs is None


def test_one_slow_network_does_not_rule_out_those_that_were_not_timed(
    store: Store, record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two takes half as long again as predicted, the other as long as predicted."""

    def measured(p: PointRecord) -> float:
        return LATENCY.of(p) * (1.5 if p.trial == 2 else 1.0)

    asked_for = {"max_latency_ms": "3.0", "min_accuracy": 0.7, "pick": "best"}
    trial, asked, _ = picked(store, record, monkeypatch, measured, **asked_for)
    assert (trial, asked) == (1, [2, 1])
