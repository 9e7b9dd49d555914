"""Studies and their leases."""

import threading
import time
from datetime import UTC, datetime

import pytest

from storage.errors import StorageError


def test_a_study_comes_back_as_it_was_given(digits):
    study = digits.study("digits")
    assert (study.spec, study.text) == ({"budget": {"trials": 4}}, "study: digits\n")
    assert study.reference == {"accuracy": 0.1, "macs": 1e6}
    assert study.seconds_spent == 0
    assert study.run_id is study.experiment_id is study.owner is study.lease_until is None
    assert abs((datetime.now(UTC) - study.created_at).total_seconds()) < 60


def test_an_unknown_study_is_none_and_all_are_listed_oldest_first(digits):
    digits.add_study("a", {}, "", {})
    assert digits.find_study("none") is None
    assert [study.name for study in digits.studies()] == ["digits", "a"]


def test_a_name_can_be_given_once(digits):
    with pytest.raises(StorageError, match="study 'digits' exists already"):
        digits.add_study("digits", {}, "", {})


def test_seconds_add_up_and_the_run_is_remembered(digits):
    digits.add_seconds("digits", 1.5)
    digits.add_seconds("digits", 2)
    digits.set_study_run("digits", "3", "abc")
    study = digits.study("digits")
    assert (study.seconds_spent, study.experiment_id, study.run_id) == (3.5, "3", "abc")


def test_a_study_that_does_not_exist_cannot_be_changed(store):
    with pytest.raises(StorageError, match="there is no study 'none'"):
        store.add_seconds("none", 1)
    with pytest.raises(StorageError, match="there is no study 'none'"):
        store.take_lease("none", "me", 1)


def test_a_lease_is_for_one_owner_until_it_ends(digits):
    assert digits.take_lease("digits", "me", 60)
    assert not digits.take_lease("digits", "you", 60)
    assert digits.take_lease("digits", "me", 60)
    digits.release_lease("digits", "you")  # not yours
    assert digits.study("digits").owner == "me"
    digits.release_lease("digits", "me")
    assert digits.take_lease("digits", "you", 60)


def test_a_lease_that_ran_out_goes_to_whoever_asks_and_cannot_be_renewed_by_the_old_owner(digits):
    digits.take_lease("digits", "me", -1)
    assert digits.take_lease("digits", "you", 60)
    assert not digits.renew_lease("digits", "me", 60)
    assert digits.renew_lease("digits", "you", 600)
    assert digits.study("digits").lease_until > time.time() + 500


def test_who_drives_is_asked_to_stop_and_keeps_the_lease_until_then(digits):
    assert not digits.ask_to_stop("digits"), "nobody drives it"
    digits.take_lease("digits", "me", 60)
    assert not digits.is_asked_to_stop("digits", "me")
    assert digits.ask_to_stop("digits")
    assert digits.ask_to_stop("digits")
    assert digits.is_asked_to_stop("digits", "me")
    assert digits.renew_lease("digits", "me", 60)
    assert not digits.take_lease("digits", "you", 60)
    digits.release_lease("digits", "me")
    assert digits.take_lease("digits", "you", 60)
    assert not digits.is_asked_to_stop("digits", "you")


def test_of_many_who_ask_at_once_one_gets_the_lease(digits):
    won = []
    asking = [
        threading.Thread(
            target=lambda name=str(i): won.append(digits.take_lease("digits", name, 60))
        )
        for i in range(8)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]
