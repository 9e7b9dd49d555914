"""Epochs, rungs, and what their values may be."""

import math

import numpy as np
import pytest
import torch
from sqlalchemy import select

from storage.errors import StorageError
from storage.records import EpochRecord, RungRecord
from storage.tables import ANSWERS, TIMINGS
from tests.points import operating_point
from tests.storage.trials import start, stop


def test_rungs_come_back_in_the_order_of_reporting(digits):
    for number, kind in ((2, "search"), (0, "search"), (2, "static")):
        start(digits, number, kind)
    for number, epoch in ((2, 4), (0, 4), (2, 12)):
        digits.add_rung(
            "digits", "search", number, epoch, {"points": [[0.5, 1e6]], "outlook": math.inf}
        )
    digits.add_rung("digits", "static", 2, 4, {})
    assert [(r.trial, r.epoch) for r in digits.rungs("digits")] == [(2, 4), (0, 4), (2, 12)]
    assert digits.rungs("digits")[0] == RungRecord(
        2, 4, {"points": [[0.5, 1e6]], "outlook": math.inf}
    )
    assert [(r.trial, r.epoch) for r in digits.rungs("digits", kind="static")] == [(2, 4)]


def test_a_rung_that_is_reported_again_replaces_the_first_report_and_comes_last(digits):
    for number in (0, 1):
        start(digits, number)
        digits.add_rung("digits", "search", number, 4, {"tried": 1})
    digits.add_rung("digits", "search", 0, 4, {"tried": 2})
    assert digits.rungs("digits") == [
        RungRecord(1, 4, {"tried": 1}),
        RungRecord(0, 4, {"tried": 2}),
    ]


def test_rungs_stay_when_a_trial_goes_on(digits):
    stop(digits, 0)
    digits.add_rung("digits", "search", 0, 4, {})
    digits.resume_trial("digits", "search", 0)
    assert [r.epoch for r in digits.rungs("digits")] == [4]
    with pytest.raises(StorageError, match=r"study 'digits' has no trial 9"):
        digits.add_rung("digits", "search", 9, 4, {})


def test_the_same_epoch_again_replaces_it(digits):
    start(digits, 0)
    for epoch, accuracy in ((2, 0.4), (1, 0.3), (2, 0.5)):
        digits.add_epoch("digits", "search", 0, EpochRecord(epoch, {"a": accuracy}, {"gate1": 0.7}))
    assert digits.epochs("digits", "search", 0) == [
        EpochRecord(1, {"a": 0.3}, {"gate1": 0.7}),
        EpochRecord(2, {"a": 0.5}, {"gate1": 0.7}),
    ]


def test_numbers_that_are_not_finite_and_numbers_of_numpy_and_torch_are_kept(digits):
    start(digits, 0)
    metrics = {
        "nan": math.nan,
        "inf": -math.inf,
        "numpy": np.float32(0.5),
        "torch": torch.tensor(2.0),
    }
    digits.add_epoch("digits", "search", 0, EpochRecord(1, metrics, {}))
    kept = digits.epochs("digits", "search", 0)[0].metrics
    assert math.isnan(kept.pop("nan"))
    assert kept == {"inf": -math.inf, "numpy": 0.5, "torch": 2.0}


def test_what_cannot_be_kept_is_said_in_one_line(digits):
    start(digits, 0)
    with pytest.raises((StorageError, TypeError), match="object cannot be kept as JSON") as raised:
        digits.add_epoch("digits", "search", 0, EpochRecord(1, {"a": object()}, {}))
    assert "\n" not in str(raised.value)


def finish(store, *right: bytes | None) -> None:
    """End trial 0 with a point for each of these answers."""
    points = [operating_point(0.5 + i / 10, right=one) for i, one in enumerate(right)]
    store.finish_trial("digits", "search", 0, points=points, result={}, seconds=1.0)


def test_which_images_a_point_answers_rightly_is_kept_and_read_where_it_is_asked_for(digits):
    start(digits, 0)
    finish(digits, b"\xf0\x01", None, b"\x00\xff")
    points = digits.points("digits")
    assert [p.right for p in points] == [None, None, None]
    assert [p.right for p in digits.with_answers(points)] == [b"\xf0\x01", None, b"\x00\xff"]
    assert [p.accuracy for p in digits.with_answers(points[::-1])] == [0.7, 0.6, 0.5]


def test_answers_go_with_their_point(digits):
    start(digits, 0)
    finish(digits, b"\x01", b"\x02")
    finish(digits, b"\x04")
    assert len(digits._database.rows(select(ANSWERS.c.point_id))) == 1
    assert [p.right for p in digits.with_answers(digits.points("digits"))] == [b"\x04"]


def test_answers_of_any_number_of_points_can_be_asked_for(digits):
    start(digits, 0)
    finish(digits, *(bytes([i % 256]) for i in range(1200)))
    found = digits.with_answers(digits.points("digits"))
    assert [p.right for p in found] == [bytes([i % 256]) for i in range(1200)]


def test_what_a_whole_network_took_stands_in_its_point_and_goes_with_it(digits):
    stop(digits, 0, points=[operating_point(0.5), operating_point(0.6)])
    second = digits.points("digits")[1]
    before = digits.stamp("digits")
    digits.add_timing(second.id, 9.0, 9.0)
    digits.add_timing(second.id, 2.0, 3.0)
    assert digits.stamp("digits") != before
    plain, timed = digits.points("digits")
    assert plain.latencies == {}
    assert timed.latencies == {"latency_measured": 2.0, "latency_static": 3.0}
    assert digits.timings("digits") == {second.id: timed.latencies}
    digits.resume_trial("digits", "search", 0)
    assert digits._database.rows(select(TIMINGS.c.point_id)) == []
