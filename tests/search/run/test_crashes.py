"""What is left of a process that died: attempts, lost checkpoints, failed trials; training made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.run.books import Books
from search.run.giving_up import LOSSES, HopelessError
from search.run.job import Failure, Job
from search.run.lost_baselines import LostBaselines, lost_in
from search.run.progress import Progress
from search.run.retry import retry
from search.spec import parse_study
from storage.checkpoints import Checkpoints
from storage.records import TrialRecord
from tests.search.run.bench import ALONE, WARM, Bench, outcome
from trainers.fit import EpochResult

TEXT = ALONE + "budget: {trials: 3, epochs: 3}\n"


def epoch(number: int) -> EpochResult:
    return EpochResult(number, {"val/accuracy": 0.5, "val/macs": 1.0}, {})


def good(job: Job, attempt: int) -> list[Any]:
    return [outcome(0.5, 1e6 * (job.number + 1))]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, line: said.append(line))
    return said


def die(bench: Bench, script: Any) -> None:
    """Drive until the process dies: nothing can tidy up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Books, "interrupt", lambda self, trial: None)
        with pytest.raises(KeyboardInterrupt):
            bench.drive(script)


def dying(job: Job, attempt: int) -> list[Any]:
    return [KeyboardInterrupt()] if job.number == 1 else good(job, attempt)


def test_a_search_that_is_killed_four_times_in_an_epoch_says_nothing_against_what_it_trains(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, TEXT)
    for _ in range(4):
        die(bench, dying)
    bench.drive(good)
    assert bench.states() == dict.fromkeys(range(3), "complete")
    apart = [job.apart for job in bench.jobs if job.number == 1]
    assert apart == [False, False, True, True, True], "nor can it take the search down once more"
    assert not bench.jobs[-1].apart


def test_deaths_of_a_trainings_own_process_count_over_several_searches(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TEXT)
    crash = Failure("its worker process ended", None, "", crashed=True)

    def crashing(job: Job, attempt: int) -> list[Any]:
        return [crash if attempt < 2 else KeyboardInterrupt()] if job.number == 1 else good(job, 0)

    die(bench, crashing)
    bench.jobs.clear()
    bench.drive(lambda job, attempt: [crash] if job.number == 1 else good(job, attempt))
    assert bench.states() == {0: "complete", 1: "failed", 2: "complete"}
    assert bench.started() == [1, 2], "two deaths before, one now"


def test_a_training_whose_process_died_is_trained_as_one_with_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TEXT)
    crash = Failure("its worker process ended", None, "", crashed=True)

    def crashing(job: Job, attempt: int) -> list[Any]:
        return [crash] if job.number == 1 and not attempt else good(job, attempt)

    bench.drive(crashing)
    assert [job.alone for job in bench.jobs if job.number == 1] == [False, True]
    assert not any(job.alone for job in bench.jobs if job.number != 1)


def test_trials_of_a_worker_share_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.run.jobs.cores", lambda: 16)
    bench = Bench(tmp_path, TEXT + "run: {workers: 2, fused: 4}\n")
    bench.drive(good, slots=8)
    assert {job.threads for job in bench.jobs} == {8}


def test_a_search_that_died_before_it_wrote_that_a_training_has_failed_writes_it_then(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, TEXT)
    crash = Failure("its worker process ended", None, "", crashed=True)
    script: Any = lambda job, attempt: [crash] if job.number == 1 else good(job, attempt)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Books, "fail", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        die(bench, script)
    bench.jobs.clear()
    bench.drive(script)
    assert bench.started() == [2]
    assert bench.store.trial("s", "search", 1).error == (
        "its process ended 3 times while it trained, without a new epoch; out of memory, or a crash"
    )


def test_a_training_with_which_the_search_ends_again_and_again_fails_in_the_end(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, TEXT)
    for _ in range(LOSSES):
        die(bench, dying)
    bench.drive(dying)
    assert bench.states() == {0: "complete", 1: "failed", 2: "complete"}
    assert (bench.store.trial("s", "search", 1).error or "").startswith(
        f"the search or its machine ended {LOSSES} times while it trained, without a new epoch; "
    )


def test_a_machine_that_is_lost_says_nothing_against_what_it_trained(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TEXT)
    lost = Failure("its node is lost", None, "", crashed=True, lost=True)
    bench.drive(lambda job, attempt: [lost] if attempt < LOSSES - 1 else good(job, attempt))
    assert bench.states() == dict.fromkeys(range(3), "complete")
    bench.spec = parse_study(TEXT.replace("trials: 3", "trials: 4"), "s.yml")
    bench.drive(lambda job, attempt: [lost])
    assert bench.states()[3] == "failed"
    assert bench.started().count(3) == LOSSES
    error = bench.store.trial("s", "search", 3).error
    assert error == f"its node is lost, {LOSSES} times without a new epoch"


def test_an_interruption_by_hand_is_no_end_of_a_training(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TEXT)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            bench.drive(dying)
    bench.drive(good)
    assert bench.states() == dict.fromkeys(range(3), "complete")
    assert not any(job.apart for job in bench.jobs)


def test_a_training_that_comes_further_each_time_is_given_new_attempts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ALONE + "budget: {trials: 1, epochs: 9}\n")
    for reached in range(1, 6):
        die(bench, lambda job, attempt, reached=reached: [epoch(reached), KeyboardInterrupt()])
    bench.drive(good)
    assert bench.states() == {0: "complete"}


def saving(bench: Bench) -> Any:
    """Baselines leave a checkpoint, as real ones do."""

    def script(job: Job, attempt: int) -> list[Any]:
        if job.kind == "static":
            Checkpoints(bench.folder).save(job.key, {}, {"epochs_done": job.epochs})
        return good(job, attempt)

    return script


def drive(bench: Bench, script: Any) -> None:
    bench.drive(
        script, baselines=LostBaselines(lost_in(bench.store, bench.spec, str(bench.folder)))
    )


@pytest.fixture
def half_done(tmp_path: Path) -> Bench:
    """A study with warm starts, interrupted at trial 4."""
    bench = Bench(tmp_path, WARM.replace("[resnet8, resnet14]", "resnet8, width: 1.0"))
    script = saving(bench)
    with pytest.raises(KeyboardInterrupt):
        drive(
            bench,
            lambda job, attempt: [KeyboardInterrupt()] if job.number == 4 else script(job, attempt),
        )
    bench.jobs.clear()
    return bench


@pytest.mark.parametrize("how", ["gone", "truncated", "flipped"])
def test_a_baseline_whose_checkpoint_is_lost_is_trained_again_as_it_was(
    half_done: Bench, lines: list[str], how: str
) -> None:
    before = half_done.store.trial("s", "static", 0)
    (file,) = half_done.folder.rglob("plain-*.safetensors")
    if how == "gone":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:-20])
    else:
        file.write_bytes(file.read_bytes().replace(b"epochs_done", b"epochs_bone"))
    drive(half_done, saving(half_done))
    names = [(job.kind, job.number) for job in half_done.jobs]
    assert names == [("static", 0), *(("search", n) for n in range(4, 8))]
    again = half_done.jobs[0]
    assert (again.params, again.seed, again.epochs) == (before.params, before.seed, before.epochs)
    assert half_done.store.trial("s", "static", 0) == before
    assert half_done.states() == dict.fromkeys(range(8), "complete")
    assert len([line for line in lines if "missing or damaged" in line]) == 1
    assert lines[0].startswith("baseline 0: its checkpoint is missing or damaged; trials start")


def test_trials_whose_lost_baseline_cannot_be_trained_again_fail_with_the_reason(
    half_done: Bench,
) -> None:
    next(half_done.folder.rglob("plain-*.safetensors")).unlink()

    def failing(job: Job, attempt: int) -> list[Any]:
        return [Failure("no space left", 1, "")] if job.kind == "static" else good(job, attempt)

    drive(half_done, failing)
    assert {half_done.states()[n] for n in range(4, 8)} == {"failed"}
    assert [job.kind for job in half_done.jobs] == ["static"], "once for all of them"
    assert half_done.store.trial("s", "search", 4).error == (
        "the baseline that it starts from could not be trained again: no space left"
    )


def test_a_lost_baseline_whose_process_dies_each_time_is_not_trained_for_ever(
    half_done: Bench,
) -> None:
    next(half_done.folder.rglob("plain-*.safetensors")).unlink()
    crash = Failure("its worker process ended", None, "", crashed=True)
    drive(half_done, lambda job, attempt: [crash] if job.kind == "static" else good(job, attempt))
    assert len(half_done.jobs) == 3, (
        "three times for all trials that wait for it, one after the other"
    )
    assert not half_done.started()
    assert half_done.states()[4] == "failed"
    assert half_done.store.trial("s", "static", 0).state == "complete"


@pytest.mark.parametrize(
    ("first", "text"),
    [(1, "it starts again"), (2, "it goes on after epoch 2"), (3, None), (4, None)],
)
def test_a_training_that_lost_epochs_says_so_in_one_line(
    tmp_path: Path, lines: list[str], first: int, text: str | None
) -> None:
    bench = Bench(tmp_path, ALONE + "budget: {trials: 1, epochs: 9}\n")
    with pytest.raises(KeyboardInterrupt):
        bench.drive(lambda job, attempt: [epoch(1), epoch(2), epoch(3), KeyboardInterrupt()])
    lines.clear()
    bench.drive(lambda job, attempt: [epoch(first), epoch(first + 1), outcome(0.5, 1e6)])
    said = [line for line in lines if "checkpoint" in line]
    expected = f"trial 0: its checkpoint of epoch 3 is missing or damaged; {text}"
    assert said == ([expected] if text else [])


def test_failed_trials_are_trained_again_with_their_numbers_and_seeds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ALONE + "budget: {trials: 6, epochs: 3}\n")
    with pytest.raises(HopelessError, match="search again to go on; --retry-failed trains the"):
        bench.drive(lambda job, attempt: [Failure("no space left", 1, "")])
    assert retry(bench.store, bench.spec, lambda candidate: None) == 5

    def known(record: TrialRecord) -> Any:
        return record.number, record.seed, record.params

    before = [known(record) for record in bench.store.trials("s", kind="search")]
    bench.jobs.clear()
    bench.drive(good)
    assert bench.started() == [0, 1, 2, 3, 4, 5]
    assert [known(r) for r in bench.store.trials("s", kind="search")][:5] == before
    assert bench.states() == dict.fromkeys(range(6), "complete")
    assert len(bench.store.failures("s")) == 5, "what went wrong is still known"


def test_what_is_infeasible_is_not_trained_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TEXT)
    bench.drive(lambda job, attempt: [Failure("too large", 1, "")])
    assert retry(bench.store, bench.spec, lambda candidate: "beyond a limit") == 0
    assert set(bench.states().values()) == {"failed"}
