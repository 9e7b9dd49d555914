"""What a person reads while a study runs."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

import search.run.progress as module
from search.run.job import Failure, Job
from search.run.progress import Progress
from storage.records import PointRecord
from trainers.data.splits import DataSpec
from trainers.fit import EpochResult

PARAMS = {"backbone": "resnet8", "width": 0.25}


def job(number: int, epochs: int = 36, kind: str = "search", metric: str = "accuracy") -> Job:
    return Job(
        kind=kind,
        number=number,
        family="gated_resnet",
        params=PARAMS,
        epochs=epochs,
        seed=0,
        data=DataSpec(source="digits"),
        checkpoints="none",
        key="k",
        metric=metric,
    )


def point(trial: int) -> PointRecord:
    return PointRecord(
        trial=trial, id=trial, kind="search", family="gated_resnet", params=PARAMS, knobs={}, accuracy=0.9,
        accuracy_low=0.88, accuracy_high=0.92, macs_mean=2e6, macs_p95=2e6, macs_max=2e6, parameters=10,
    )  # fmt: skip


def epoch(number: int) -> EpochResult:
    return EpochResult(number, {"val/accuracy": 0.5, "val/macs": 1e6}, {})


class Watched:
    """A progress whose lines and clock a test sees."""

    def __init__(self, terminal: bool, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        patch.setattr(module.time, "monotonic", lambda: self.now)
        self.written = io.StringIO()
        console = Console(file=self.written, force_terminal=terminal, color_system=None, width=200)
        self.progress = Progress(console, "s", 40, 1)

    @property
    def view(self) -> str:
        """What a terminal shows now."""
        with self.progress.console.capture() as shown:
            self.progress.console.print(self.progress._view())
        return shown.get()

    @property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.written.getvalue().splitlines()]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(False, monkeypatch)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(True, monkeypatch)


def test_stopped_trials_count_as_done_and_are_told_apart(plain: Watched) -> None:
    plain.progress.counts(complete=7, failed=2, stopped=5)
    assert plain.progress.status() == "12 of 40 trials done (5 stopped early), 0 running, 2 failed"
    plain.progress.counts(complete=7, failed=0)
    assert plain.progress.status() == "7 of 40 trials done, 0 running"


@pytest.mark.parametrize("shown", ["plain", "terminal"])
def test_a_stopped_trial_that_joins_the_front_is_one_line(
    shown: str, request: pytest.FixtureRequest
) -> None:
    watched: Watched = request.getfixturevalue(shown)
    watched.progress.trial_started(job(3))
    watched.progress.trial_stopped(job(3), 4, [point(3)])
    *start, line = watched.lines
    assert len(start) == (shown == "plain")
    assert line.startswith(
        "trial   3, stopped after epoch 4 of 36, joins the front with 1 point, up to 90.0% at"
    )
    assert not watched.progress.running


def test_another_metric_than_accuracy_is_named(plain: Watched, terminal: Watched) -> None:
    own, extra = job(3, metric="macro_f1"), {"metric": "macro_f1", "top1": 0.99}
    plain.progress.trial_stopped(own, 4, [replace(point(3), extra=extra)])
    assert "with 1 point, up to 90.0% macro F1 at" in plain.lines[-1]
    terminal.progress.trial_started(own)
    terminal.progress.epoch(own, EpochResult(1, {"val/macro_f1": 0.4, "val/macs": 1e6}, {}))
    terminal.progress.console.print(terminal.progress._view())
    assert "40.0% macro F1 at" in "".join(terminal.lines)


def test_one_that_does_not_is_said_where_there_is_no_live_view(
    plain: Watched, terminal: Watched
) -> None:
    for watched in (plain, terminal):
        watched.progress.trial_stopped(job(3), 12, [])
    assert terminal.lines == []
    (line,) = plain.lines
    assert line.startswith(
        "trial   3, stopped after epoch 12 of 36, is dominated  (0 of 40 trials done, 0 running"
    )


def test_a_trial_that_goes_on_is_said(plain: Watched) -> None:
    plain.progress.trial_resumed(job(3), 4)
    assert plain.lines == ["trial   3 goes on after epoch 4 of 36"]


def test_a_log_says_how_far_each_training_is_and_since_when(plain: Watched) -> None:
    progress = plain.progress
    progress.trial_started(job(0, kind="static"))
    assert plain.lines == [
        "the first training starts: baseline 0, 36 epochs, gated_resnet resnet8 x0.25"
    ]
    plain.now = 200.0
    progress.trial_started(job(3))
    plain.now = 260.0
    progress.epoch(job(3), epoch(2))
    assert progress.status().startswith(
        "0 of 40 trials done, 2 running (baseline 0: in its first epoch, 4 min; trial 3: epoch 2 of 36 done, 60 s)"
    )
    for number in (4, 5, 6):
        progress.trial_started(job(number))
    assert "trial 4: in its first epoch, 1 s; 2 more)" in progress.status()


def test_what_a_training_does_beside_its_epochs_is_said_until_the_next_one(
    plain: Watched, terminal: Watched
) -> None:
    for watched in (plain, terminal):
        watched.progress.trial_started(job(3))
        watched.progress.training_does(job(3), "its trunk reads the images")
    assert "(trial 3: its trunk reads the images, 1 s)" in plain.progress.status()
    assert "its trunk reads the images" in terminal.view
    for watched in (plain, terminal):
        watched.progress.epoch(job(3), epoch(1))
    assert "(trial 3: epoch 1 of 36 done, 1 s)" in plain.progress.status()
    assert "trunk" not in terminal.view
    plain.progress.training_does(job(3), "measuring its operating points")
    plain.progress.trial_finished(job(3), [])
    plain.progress.trial_started(job(3))
    assert "(trial 3: in its first epoch, 1 s)" in plain.progress.status()


def test_a_log_has_a_line_while_a_long_epoch_says_nothing(plain: Watched) -> None:
    progress = plain.progress
    progress.trial_started(job(3))
    plain.now = 660.0
    progress._heartbeat.beat()
    assert plain.lines[-1] == (
        "0 of 40 trials done, 1 running (trial 3: in its first epoch, 11 min)"
    )


def test_what_is_done_between_trainings_is_said(plain: Watched, terminal: Watched) -> None:
    for watched in (plain, terminal):
        watched.progress.doing("measuring")
        assert watched.progress.status() == "0 of 40 trials done, 0 running, measuring"
        watched.progress.trial_started(job(3))
        assert "measuring" not in watched.progress.status()
    assert plain.lines[0] == "measuring"
    assert terminal.lines == []


def test_every_end_takes_a_trial_from_what_runs(plain: Watched) -> None:
    progress = plain.progress
    for number, kind in ((0, "search"), (1, "search"), (2, "search"), (0, "static"), (1, "static")):
        progress.trial_started(job(number, kind=kind))
    progress.trial_finished(job(0), [])
    progress.trial_stopped(job(1), 4, [])
    progress.trial_failed(job(2), Failure("no such file", 1, ""))
    progress.trial_finished(job(0, kind="static"), [])
    progress.trial_failed(job(1, kind="static"), Failure("no such file", 1, ""))
    assert (progress.running, progress.session_done) == ({}, 5)


def test_time_left_counts_a_stopped_trial_as_done(plain: Watched) -> None:
    progress = plain.progress
    for number in range(10):
        progress.trial_stopped(job(number), 4, [])
    progress.counts(complete=0, failed=0, stopped=10)
    plain.now = 600.0
    assert progress._seconds_left() == pytest.approx(30 * 60)


def test_time_left_counts_of_a_trial_that_went_on_only_what_it_trains_now(plain: Watched) -> None:
    progress = plain.progress
    progress.trial_stopped(job(0), 12, [])
    progress.counts(complete=0, failed=0, stopped=0)
    progress.trial_resumed(job(0), 12)
    progress.trial_started(job(0), 12)
    plain.now = 100.0
    progress.epoch(job(0), epoch(12))
    assert progress._seconds_left() == pytest.approx(40 * 100), "nothing of its rest is done"
    progress.epoch(job(0), epoch(24))
    assert progress._seconds_left() == pytest.approx(39.5 * 100 / 1.5)
    progress.trial_finished(job(0), [])
    progress.trial_started(job(0))
    progress.epoch(job(0), epoch(18))
    assert progress._seconds_left() == pytest.approx(39.5 * 100 / 2.5), "its number starts afresh"


def test_a_study_whose_hours_end_before_its_trials_says_when_they_end(plain: Watched) -> None:
    progress = plain.progress
    progress.budget_left = lambda: 900.0 - plain.now
    progress.trial_started(job(0))
    assert progress.status().endswith(", 15 min of its time left")
    plain.now = 600.0
    progress.trial_finished(job(0), [])
    progress.counts(complete=1, failed=0)
    assert progress.status().endswith(", 5 min of its time left"), "not hours that it does not have"
    progress.counts(complete=39, failed=0)
    progress.budget_left = lambda: 3600.0
    assert progress.status().endswith(", about 10 min left")
    progress.budget_left = lambda: 0.0
    assert progress.status().endswith(", its time is spent")
    progress.counts(complete=40, failed=0)
    assert progress.status() == "40 of 40 trials done, 0 running"


def test_a_training_that_goes_on_says_from_where(plain: Watched, terminal: Watched) -> None:
    for watched in (plain, terminal):
        watched.progress.trial_started(job(3), 24)
    assert "(trial 3: epoch 24 of 36 done, 1 s)" in plain.progress.status()
    assert "24/36" in terminal.view


def test_a_training_whose_checkpoint_was_missing_counts_from_where_it_began(plain: Watched) -> None:
    progress = plain.progress
    progress.trial_started(job(3), 24)
    plain.now = 70.0
    progress.epoch(job(3), epoch(1))
    assert "(trial 3: epoch 1 of 36 done, 70 s)" in progress.status()
    progress.epoch(job(3), epoch(18))
    assert progress._seconds_left() == pytest.approx(79 * 70.0)


def test_a_training_that_has_only_to_be_measured_adds_nothing_to_what_is_done(
    plain: Watched,
) -> None:
    progress = plain.progress
    progress.trial_started(job(3), 36)
    progress.trial_started(job(4))
    plain.now = 70.0
    progress.epoch(job(3), epoch(36))
    progress.epoch(job(4), epoch(18))
    assert progress._seconds_left() == pytest.approx(79 * 70.0)
