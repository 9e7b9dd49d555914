"""What the store keeps, hands out and refuses, on real databases."""

import math
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from storage.errors import StorageError
from storage.records import EpochRecord, OperatingPoint, RungRecord
from storage.store import Store

POINT = OperatingPoint(
    knobs={"threshold": 0.5, "exits": [0.9, 0.8]},
    accuracy=0.9,
    accuracy_low=0.88,
    accuracy_high=0.92,
    macs_mean=1.5e6,
    macs_p95=2e6,
    macs_max=3e6,
    parameters=5_000_000_000,
)


@pytest.fixture
def digits(store):
    store.add_study(
        "digits", {"budget": {"trials": 4}}, "study: digits\n", {"accuracy": 0.1, "macs": 1e6}
    )
    return store


def start(store: Store, number: int, kind="search", study="digits") -> None:
    store.add_trial(
        study, kind, number, "gated_resnet", {"depth": 20, "lr": 0.1}, 2**40 + number, 12
    )


def finish(store: Store, number: int, points=(POINT,), kind="search", **more) -> None:
    store.finish_trial(
        "digits", kind, number, points=points, result={"parameters": 7}, seconds=3.5, **more
    )


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


def stop(store: Store, number: int, epoch: int = 4, points=(POINT,)) -> None:
    start(store, number)
    result = {"stopped_at": epoch}
    store.finish_trial(
        "digits", "search", number, points=points, result=result, seconds=1.5, state="stopped"
    )


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


def test_nothing_can_be_added_to_a_trial_or_study_that_does_not_exist(digits):
    with pytest.raises(StorageError, match=r"study 'digits' has no trial 9"):
        finish(digits, 9)
    with pytest.raises(StorageError, match=r"(?i)foreign key"):
        start(digits, 0, study="none")


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


def test_exports_are_kept_in_order(digits):
    first = digits.add_export(
        "digits", pick="knee", folder="exported", report={"parity": 1e-6}, point=3
    )
    digits.add_export(
        "digits", pick="best", folder="best", report={}, model_uri="models:/digits@best"
    )
    assert digits.exports("digits")[0] == first
    assert (first.pick, first.folder, first.report, first.point) == (
        "knee",
        "exported",
        {"parity": 1e-6},
        3,
    )
    assert digits.exports("digits")[1].model_uri == "models:/digits@best"


def test_what_was_written_is_there_after_opening_again(digits, url):
    start(digits, 0)
    again = Store.open(url)
    assert again.trial("digits", "search", 0) == digits.trial("digits", "search", 0)
    again.close()


def test_a_connection_that_the_server_hung_up_is_replaced(digits, url):
    if not url.startswith("postgresql"):
        pytest.skip("a file does not hang up")
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.connect() as connection:
        mine = "pid <> pg_backend_pid() AND datname = current_database()"
        connection.execute(
            text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        )
    engine.dispose()
    start(digits, 0)
    finish(digits, 0)
    assert len(digits.points("digits")) == 1


def test_records_cannot_be_changed(digits):
    with pytest.raises(AttributeError, match="cannot assign"):
        digits.study("digits").name = "other"


@pytest.mark.slow
def test_threads_read_while_others_write(digits):
    errors = []

    def write(first: int) -> None:
        try:
            for number in range(first, first + 40):
                start(digits, number)
                finish(digits, number, [POINT] * 5)
        except StorageError as error:
            errors.append(error)

    def read() -> None:
        try:
            while writers[0].is_alive() or writers[1].is_alive():
                assert len(digits.points("digits")) % 5 == 0  # a trial's points appear together
        except (StorageError, AssertionError) as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 100)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in (*writers, reader):
        thread.join()
    assert errors == []
    assert len(digits.points("digits")) == 400


@pytest.mark.slow
def test_a_trial_costs_a_few_milliseconds_however_many_there_are(digits):
    spent = []
    for number in range(300):
        begun = time.perf_counter()
        start(digits, number)
        finish(digits, number, [POINT] * 10)
        spent.append(time.perf_counter() - begun)
    early, late = sorted(spent[:100])[50], sorted(spent[200:])[50]
    assert late < 0.05  # 2 ms on an idle machine
    assert late < 2 * early + 0.002
