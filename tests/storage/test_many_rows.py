"""Many rows written by one statement: in their order, and as they were."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import event, select

from storage.many_rows import insert_rows
from storage.records import Kind, OperatingPoint, PointRecord
from storage.store import Store
from storage.tables import ANSWERS, POINTS
from tests.points import operating_point

KNOBS = {
    "policy": "threshold",
    "tau": None,
    "name": "é 'quoted' \\ {}",
    "many": [1, 2.5, True],
}


def finished(store: Store, points: list[OperatingPoint]) -> list[PointRecord]:
    """The points of an ended trial as they are read again."""
    store.add_study("s", {"families": []}, "", {"accuracy": 0.1, "macs": 1.0})
    store.add_trial("s", Kind.SEARCH, 0, "gated_resnet", {}, 0, 3)
    store.finish_trial("s", Kind.SEARCH, 0, points=points, result={}, seconds=1.0)
    return store.with_answers(store.points("s"))


def test_points_come_back_in_their_order_with_all_that_they_have(store: Store) -> None:
    points = [
        operating_point(
            0.1 + number / 7,
            1e6 * number / 3,
            knobs=KNOBS | {"number": number},
            extra={"rates": {"block.é": [1e-300, 0.1]}, "nan": math.inf},
            right=bytes([number, 0, 255]) if number % 2 else None,
        )
        for number in range(40)
    ]
    found = finished(store, points)
    assert [p.knobs for p in found] == [p.knobs for p in points]
    assert [p.accuracy for p in found] == [p.accuracy for p in points], "to the last bit"
    assert [p.macs_mean for p in found] == [p.macs_mean for p in points]
    assert [p.extra for p in found] == [p.extra for p in points]
    assert [p.right for p in found] == [p.right for p in points]
    ids = [p.id or 0 for p in found]
    assert ids == sorted(ids)


def test_numbers_that_json_has_not_are_written_one_by_one(store: Store) -> None:
    points = [operating_point(0.5, 1e6), operating_point(0.5, math.inf)]
    assert [p.macs_mean for p in finished(store, points)] == [1e6, math.inf]


def test_a_server_is_sent_one_statement_for_all_rows(store: Store) -> None:
    finished(store, [operating_point(0.5, 1e6)])
    sent = list[Any]()
    database = store._database
    if not database.has_clock:
        pytest.skip("SQLite is no server")
    with database.writing() as connection:
        event.listen(connection, "before_cursor_execute", lambda *given: sent.append(given[3:]))
        (trial,) = connection.scalars(select(POINTS.c.trial_id)).all()
        row: dict[str, Any] = {c.name: 0.5 for c in POINTS.c if c.name != "id"}
        row |= {"trial_id": trial, "knobs": {}, "extra": {}, "parameters": 2, "chosen": True}
        insert_rows(connection, POINTS, [row] * 25)
        insert_rows(connection, ANSWERS, [])
        assert len(connection.scalars(select(POINTS.c.id)).all()) == 26
    assert [many for *_, many in sent] == [False, False, False]
    assert len(sent[1][0]) == 1, "with one parameter"
