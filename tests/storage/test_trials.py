"""Trials from start to end, with their points and failures."""

from dataclasses import replace
from datetime import UTC

import pytest

from storage.attempts import Ends
from storage.errors import StorageError
from storage.finished import Finished
from storage.records import EpochRecord
from tests.storage.trials import POINT, finish, start, stop


def test_a_trial_comes_back_as_it_was_given(digits):
    start(digits, 3)
    trial = digits.trial("digits", "search", 3)
    assert (trial.state, trial.family, trial.params) == (
        "running",
        "gated_resnet",
        {"depth": 20, "lr": 0.1},
    )
    assert (trial.seed, trial.epochs, trial.seconds, trial.result) == (2**40 + 3, 12, 0, {})
    assert trial.started_at.tzinfo is UTC
    assert trial.finished_at is trial.error is trial.of_trial is trial.run_id is None
    assert trial.published is False
    assert digits.find_trial("digits", "static", 3) is None


def test_a_trial_is_returned_as_it_is_stored_when_it_starts_and_when_it_starts_again(digits):
    for _ in range(2):
        given = {"family": "gated_resnet", "params": {"width": 0.5}, "seed": 5, "epochs": 3}
        assert digits.add_trial("digits", "search", 0, **given) == digits.trial(
            "digits", "search", 0
        )
        digits.fail_trial("digits", "search", 0, error="no memory", epoch=1, trace="")


def test_trials_are_listed_by_kind_and_state(digits):
    for number in (1, 0):
        start(digits, number)
    start(digits, 0, kind="static")
    finish(digits, 1)
    assert [(t.kind, t.number) for t in digits.trials("digits")] == [
        ("search", 0),
        ("search", 1),
        ("static", 0),
    ]
    assert [t.number for t in digits.trials("digits", kind="search", state="complete")] == [1]
    assert [t.kind for t in digits.trials("digits", state="running")] == ["search", "static"]


def test_a_finished_trial_has_its_result_and_all_its_points(digits):
    start(digits, 0)
    finish(
        digits,
        0,
        [replace(POINT, chosen=True), replace(POINT, accuracy=0.8, extra={"rates": [1, 0]})],
    )
    trial = digits.trial("digits", "search", 0)
    assert (trial.state, trial.seconds, trial.result) == ("complete", 3.5, {"parameters": 7})
    assert digits.trials("digits") == [trial]
    assert digits.trials("digits", results=False) == [replace(trial, result={})]
    assert trial.finished_at >= trial.started_at
    digits.set_run("digits", "search", 0, "run0")
    first, second = digits.points("digits")
    assert (first.trial, first.kind, first.family, first.run_id) == (
        0,
        "search",
        "gated_resnet",
        "run0",
    )
    assert {name: getattr(first, name) for name in vars(POINT)} == vars(replace(POINT, chosen=True))
    assert (first.chosen, second.chosen) == (True, False)
    assert (first.extra, second.extra) == ({}, {"rates": [1, 0]})


def test_what_ends_a_trial_returns_its_points_as_they_are_stored(digits):
    start(digits, 0)
    start(digits, 1)
    finish(digits, 0)
    answered = replace(POINT, accuracy=0.7, right=b"x")  # which are kept elsewhere
    assert finish(digits, 1, [POINT, answered]) == digits.points("digits", "search", 1)
    assert finish(digits, 1, [answered]) == digits.points("digits", "search", 1)
    assert finish(digits, 0, []) == []


def test_points_can_be_asked_for_by_kind_and_number(digits):
    for kind, number in (("search", 0), ("search", 1), ("static", 1)):
        start(digits, number, kind)
        finish(digits, number, kind=kind)
    found = [(p.kind, p.trial) for p in digits.points("digits", kind="search", number=1)]
    assert found == [("search", 1)]
    assert len(digits.points("digits", kind="search")) == 2
    assert len(digits.points("digits", number=1)) == 2


def test_a_failed_trial_has_no_points(digits):
    start(digits, 0)
    finish(digits, 0)
    digits.fail_trial("digits", "search", 0, error="the checkpoint is gone", epoch=None, trace="")
    assert digits.points("digits") == []


def test_finishing_again_replaces_the_points(digits):
    start(digits, 0)
    finish(digits, 0, [POINT] * 3)
    digits.set_run("digits", "search", 0, "run0")
    finish(digits, 0, [POINT])
    assert len(digits.points("digits")) == 1
    assert not digits.trial("digits", "search", 0).published


def test_a_trial_is_finished_with_all_its_points_or_not_at_all(digits):
    start(digits, 0)
    with pytest.raises(StorageError):
        finish(digits, 0, [POINT, replace(POINT, accuracy=None)])
    assert digits.trial("digits", "search", 0).state == "running"
    assert digits.points("digits") == []


def test_trials_are_finished_together_in_any_order_or_not_at_all(digits):
    for number, kind in ((0, "search"), (0, "static"), (1, "search")):
        start(digits, number, kind)
        digits.attempts.begin("digits", kind, number)
    finish(digits, 1, [POINT] * 3)

    def end(number, kind, *accuracies):
        points = [replace(POINT, accuracy=one, right=bytes([number])) for one in accuracies]
        return Finished(
            kind=kind, number=number, points=points, result={"parameters": number}, seconds=2.0
        )

    ends = [end(1, "search", 0.5, 0.4), end(0, "static"), end(0, "search", 0.6)]
    with pytest.raises(StorageError, match="no trial 7"):
        digits.finish_trials("digits", [*ends, end(7, "search", 0.1)])
    assert digits.trial("digits", "search", 0).state == "running"
    assert len(digits.points("digits")) == 3
    stored = digits.finish_trials("digits", ends)
    assert stored == [digits.points("digits", one.kind, one.number) for one in ends]
    assert [[point.accuracy for point in one] for one in stored] == [[0.5, 0.4], [], [0.6]]
    for one in ends:
        trial = digits.trial("digits", one.kind, one.number)
        assert (trial.state, trial.result) == ("complete", one.result)
        assert digits.attempts.ends("digits", one.kind, one.number) == Ends()
    answered = digits.with_answers([point for one in stored for point in one])
    assert [point.right for point in answered] == [b"\1", b"\1", b"\0"]
    assert digits.finish_trials("digits", []) == []


def test_a_trial_that_starts_at_once_has_a_start_also_when_it_failed_before(digits):
    given = {"family": "gated_resnet", "params": {}, "seed": 5, "epochs": 3}
    digits.add_trial("digits", "search", 0, **given, begins=True)
    assert digits.attempts.ends("digits", "search", 0) == Ends(lost=1)
    digits.add_epoch("digits", "search", 0, EpochRecord(1, {}, {}))
    digits.fail_trial("digits", "search", 0, error="no memory", epoch=1, trace="")
    digits.add_trial("digits", "search", 0, **given, begins=True)
    assert digits.attempts.ends("digits", "search", 0) == Ends(lost=1)


def test_a_repeated_candidate_names_its_trial(digits):
    start(digits, 5)
    finish(digits, 5, [], of_trial=2)
    assert digits.trial("digits", "search", 5).of_trial == 2


def test_a_failed_trial_keeps_every_reason_and_may_start_again(digits):
    start(digits, 0)
    digits.add_epoch("digits", "search", 0, EpochRecord(1, {"val/accuracy": 0.5}, {}))
    digits.fail_trial("digits", "search", 0, error="out of memory\0", epoch=2, trace="File\n...")
    failed = digits.trial("digits", "search", 0)
    assert (failed.state, failed.error) == ("failed", "out of memory")
    start(digits, 0)
    again = digits.trial("digits", "search", 0)
    assert (again.state, again.error, again.finished_at) == ("running", None, None)
    digits.fail_trial("digits", "search", 0, error="killed", epoch=None, trace="")
    assert [(f.trial, f.epoch, f.error) for f in digits.failures("digits")] == [
        (0, 2, "out of memory"),
        (0, None, "killed"),
    ]
    assert digits.failures("digits")[0].trace == "File\n..."
    assert len(digits.epochs("digits", "search", 0)) == 1


def test_a_complete_trial_cannot_start_again(digits):
    start(digits, 0)
    finish(digits, 0)
    with pytest.raises(StorageError, match=r"trial 0 of study 'digits' is complete"):
        start(digits, 0)


def test_a_stopped_trial_keeps_its_points_beside_those_of_complete_ones(digits):
    stop(digits, 0, points=[POINT, POINT])
    start(digits, 1)
    finish(digits, 1)
    trial = digits.trial("digits", "search", 0)
    assert (trial.state, trial.result, trial.seconds) == ("stopped", {"stopped_at": 4}, 1.5)
    assert trial.finished_at >= trial.started_at
    assert [p.trial for p in digits.points("digits")] == [0, 0, 1]
    assert [t.number for t in digits.trials("digits", state="stopped")] == [0]


def test_a_stopped_trial_cannot_start_again_but_be_resumed_without_its_points(digits):
    stop(digits, 0)
    stop(digits, 1)
    digits.set_run("digits", "search", 0, "run0")
    with pytest.raises(
        StorageError, match=r"trial 0 of study 'digits' is stopped; it cannot start"
    ):
        start(digits, 0)
    digits.resume_trial("digits", "search", 0)
    trial = digits.trial("digits", "search", 0)
    assert (trial.state, trial.result, trial.finished_at, trial.published) == (
        "running",
        {},
        None,
        False,
    )
    assert (trial.run_id, trial.seconds) == ("run0", 1.5)
    assert [p.trial for p in digits.points("digits")] == [1]
    finish(digits, 0, [POINT] * 2)
    assert [p.trial for p in digits.points("digits")] == [1, 0, 0]


@pytest.mark.parametrize("state", ["running", "complete", "failed"])
def test_only_a_stopped_trial_can_be_resumed(digits, state):
    start(digits, 0)
    if state == "complete":
        finish(digits, 0)
    if state == "failed":
        digits.fail_trial("digits", "search", 0, error="", epoch=None, trace="")
    with pytest.raises(StorageError, match=r"trial 0 of study 'digits' is not stopped"):
        digits.resume_trial("digits", "search", 0)
    assert digits.trial("digits", "search", 0).state == state
    assert len(digits.points("digits")) == (state == "complete")


def test_unpublish_forgets_the_runs_of_one_study_only(digits):
    digits.add_study("other", {}, "", {})
    for study in ("digits", "other"):
        start(digits, 0, study=study)
        digits.set_run(study, "search", 0, "r")
    assert digits.trial("digits", "search", 0).published
    digits.unpublish("digits")
    forgotten = digits.trial("digits", "search", 0)
    assert (forgotten.run_id, forgotten.published) == (None, False)
    assert digits.trial("other", "search", 0).published
