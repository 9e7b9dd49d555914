"""Starts of trainings that did not end."""

import pytest

from storage.attempts import Ends
from storage.errors import StorageError
from storage.records import EpochRecord
from tests.storage.trials import start


@pytest.fixture
def attempts(digits):
    start(digits, 0)
    start(digits, 1)
    start(digits, 0, kind="static")
    return digits.attempts


def test_starts_are_counted_by_training(attempts):
    attempts.begin("digits", "search", 0)
    attempts.begin("digits", "search", 0)
    attempts.begin("digits", "static", 0)
    counts = [
        attempts.ends("digits", *one).lost for one in (("search", 0), ("search", 1), ("static", 0))
    ]
    assert counts == [2, 0, 1]


def test_a_death_is_told_from_a_start_that_was_lost_with_its_driver(attempts):
    for _ in range(3):
        attempts.begin("digits", "search", 0)
        attempts.begin("digits", "search", 1)
        attempts.died("digits", "search", 0)
    attempts.begin("digits", "search", 0)
    assert attempts.ends("digits", "search", 0) == Ends(died=3, lost=1)
    assert attempts.ends("digits", "search", 1) == Ends(died=0, lost=3)
    attempts.died("digits", "static", 0)  # one that never began


def test_only_starts_since_the_last_stored_epoch_count(digits, attempts):
    attempts.begin("digits", "search", 0)
    digits.add_epoch("digits", "search", 0, EpochRecord(1, {"loss": 1.0}, {}))
    assert attempts.ends("digits", "search", 0) == Ends()
    attempts.begin("digits", "search", 0)
    assert attempts.ends("digits", "search", 0) == Ends(lost=1)


def test_a_start_that_was_interrupted_on_purpose_is_withdrawn_alone(attempts):
    attempts.begin("digits", "search", 0)
    attempts.begin("digits", "search", 0)
    attempts.begin("digits", "search", 1)
    attempts.withdraw("digits", "search", 0)
    assert attempts.ends("digits", "search", 0).lost == 1
    assert attempts.ends("digits", "search", 1).lost == 1
    attempts.withdraw("digits", "static", 0)  # one that never began


def test_a_training_that_is_over_has_none(attempts):
    attempts.begin("digits", "search", 0)
    attempts.begin("digits", "search", 1)
    attempts.clear("digits", "search", 0)
    assert attempts.ends("digits", "search", 0).lost == 0
    assert attempts.ends("digits", "search", 1).lost == 1


def test_a_training_that_is_not_there_is_named(attempts):
    with pytest.raises(StorageError, match="has no trial 7"):
        attempts.begin("digits", "search", 7)


@pytest.mark.parametrize("how", ["finished", "failed"])
def test_what_ends_a_training_ends_its_starts(digits, attempts, how):
    attempts.begin("digits", "search", 0)
    attempts.begin("digits", "search", 1)
    if how == "finished":
        digits.finish_trial("digits", "search", 0, points=[], result={}, seconds=1.0)
    else:
        digits.fail_trial("digits", "search", 0, error="diverged", epoch=1, trace="")
    assert attempts.ends("digits", "search", 0).lost == 0
    assert attempts.ends("digits", "search", 1).lost == 1


def test_a_start_says_which_epoch_was_stored_last(digits, attempts):
    assert attempts.begin("digits", "search", 0) == 0
    digits.add_epoch("digits", "search", 0, EpochRecord(1, {"loss": 1.0}, {}))
    assert attempts.begin("digits", "search", 0) == 1
