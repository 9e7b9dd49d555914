"""Epochs, rungs, and what their values may be."""

import math

import numpy as np
import pytest
import torch

from storage.errors import StorageError
from storage.records import EpochRecord, RungRecord
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
