"""Points that were read before are not read again, and are the same as read anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.service.known_points import MOST_READ, KnownPoints
from storage.records import TIMED, Kind, PointRecord, State
from storage.store import Store
from tests.points import operating_point


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    found.add_study("s", {}, "", {})
    return found


def ended(store: Store, number: int, *accuracies: float, state: State = State.COMPLETE) -> None:
    if store.find_trial("s", "search", number) is None:
        store.add_trial("s", "search", number, "gated_resnet", {"backbone": "resnet8"}, 0, 2)
    points = [operating_point(accuracy, 1e6) for accuracy in accuracies]
    store.finish_trial("s", "search", number, points=points, result={}, seconds=1.0, state=state)


def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the store is asked for points from now on."""
    seen: list[tuple[Any, ...]] = []
    whole = store.points

    def points(*asked: Any, rates: bool) -> list[PointRecord]:
        seen.append(asked)
        return whole(*asked, rates=rates)

    monkeypatch.setattr(store, "points", points)
    return seen


def known(points: KnownPoints, store: Store) -> list[PointRecord]:
    return points.of("s", store.trials("s"))


def test_only_what_changed_is_read_and_all_is_as_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, read = store.points, reads(store, monkeypatch)
    points = KnownPoints(store)
    assert known(points, store) == []
    ended(store, 0, 0.8, 0.7)
    ended(store, 1, 0.9, state=State.STOPPED)
    assert known(points, store) == whole("s", rates=False)
    read.clear()
    assert known(points, store) == whole("s", rates=False)
    assert read == []
    ended(store, 2, 0.95)
    assert known(points, store) == whole("s", rates=False)
    assert read == [("s", "search", 2)]
    store.resume_trial("s", "search", 1)
    assert [p.trial for p in known(points, store)] == [0, 0, 2], "what goes on has no points"
    ended(store, 1, 0.91, 0.85)
    assert known(points, store) == whole("s", rates=False)
    store.set_run("s", "search", 0, "its run")
    assert known(points, store) == whole("s", rates=False)
    assert {p.run_id for p in known(points, store) if p.trial == 0} == {"its run"}


def test_a_study_that_is_new_is_read_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MOST_READ + 1):
        ended(store, number, 0.5)
    whole, read = store.points, reads(store, monkeypatch)
    assert known(KnownPoints(store), store) == whole("s", rates=False)
    assert read == [("s",)]


def test_what_is_timed_later_is_read_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(store, 0, 0.8, 0.7)
    ended(store, 1, 0.9)
    points, read = KnownPoints(store), reads(store, monkeypatch)
    first, *_ = known(points, store)
    read.clear()
    store.add_timing(first.id or 0, 6.5, 7.0)
    assert [p.extra.get(TIMED) for p in known(points, store)] == [6.5, None, None]
    store.add_timing(first.id or 0, 5.5, 7.0)
    assert [p.extra.get(TIMED) for p in known(points, store)] == [5.5, None, None]
    assert {asked[1:] for asked in read} == {(Kind.SEARCH, 0)}, "the other one is not read again"
