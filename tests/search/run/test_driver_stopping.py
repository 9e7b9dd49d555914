"""Driving a study with early stopping, warm starts, plateaus, limits and regions; trainings made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from search.front.stored import study_front
from search.objectives import Reference
from search.run.job import Failure, Job, Outcome, Rung
from search.run.jobs import job_of
from search.schedule.scheduler import Scheduler
from search.spec import parse_study
from spaces.contract.task import Task
from storage.checkpoints import Checkpoints
from storage.records import OperatingPoint
from storage.store import Store
from tests.points import operating_point
from tests.search.run.test_driver import Follower, Scripted, driver
from trainers.fit import EpochResult

TASK = Task(channels=1, height=8, width=8, classes=10)
REFERENCE = Reference(accuracy=0.1, macs=1e7, parameters=1e5)
BASE = "study: s\ndata: digits\nfamilies: [gated_resnet]\nsampler: random\nstarting_points: false\n"
STOPPING = BASE + "warm_start: false\nbudget: {trials: 8, epochs: 6}\n"  # one rung, after epoch 2
WARM = BASE + "early_stopping: false\nspace: {gated_resnet: {backbone: [resnet8, resnet14]}}\n"
WARM += "budget: {trials: 8, epochs: 9}\n"
ALONE = BASE + "warm_start: false\nearly_stopping: false\n"
SAME = "space: {gated_resnet: {backbone: resnet8, granularity: layer, gate: independent, loss: none, lr: 0.1, "
SAME += "weight_decay: 0.001}}\n"
WARM_SAME = BASE + "early_stopping: false\nbudget: {trials: 8, epochs: 9}\n" + SAME
Script = Callable[[Job, int], list[Any]]


def point(loss: float, macs: float, parameters: int = 1000) -> OperatingPoint:
    return operating_point(1 - 0.9 * loss, macs, parameters=parameters)


def rung(loss: float, macs: float, outlook: float | None = 1.0, epoch: int = 2) -> Rung:
    return Rung(epoch, [point(loss, macs)], outlook, 10, 100, {"device": "cpu"}, 0.5)


def outcome(loss: float, macs: float, parameters: int = 1000) -> Outcome:
    return Outcome([point(loss, macs, parameters)], 10, 100, {"device": "cpu"}, 0.5)


@dataclass
class Bench:
    """A study in a database file that drivers can be run over, one after the other; Optuna's side stays in memory."""

    folder: Path
    text: str
    jobs: list[Job] = field(default_factory=list)  # in the order of starting
    answers: list[tuple[int, int, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.store = Store.open(f"sqlite:///{self.folder / 'db.sqlite'}")
        self.storage = optuna.storages.InMemoryStorage()
        self.spec = parse_study(self.text, "s.yml")
        self.store.add_study("s", self.spec.model_dump(mode="json"), self.text, REFERENCE.as_dict())

    def drive(self, script: Script, *, slots: int = 1, **settings: Any) -> Scheduler:
        def started(job: Job, attempt: int) -> list[Any]:
            self.jobs.append(job)
            return script(job, attempt)

        engine = Scripted(started, slots)
        settings = {
            "reference": REFERENCE,
            "checkpoints": str(self.folder),
            "follower": Follower(),
            **settings,
        }
        drives = driver(self.spec, self.store, self.storage, engine, **settings)
        assert isinstance(drives.plan, Scheduler)
        self.scheduler = drives.plan
        try:
            self.complete = drives.run()
        finally:
            self.answers += engine.answers
        return self.scheduler

    def states(self) -> dict[int, str]:
        return {t.number: t.state for t in self.store.trials("s", kind="search")}

    def started(self) -> list[int]:
        return [job.number for job in self.jobs if job.kind == "search"]

    def optuna_trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="s", storage=self.storage).get_trials()

    def decisions(self) -> tuple[Any, ...]:
        """What a study decided: states, what was asked, what was stopped where, what was found."""
        trials = self.store.trials("s", kind="search")
        return (
            self.states(),
            [(t.params, t.seed, t.of_trial, t.result.get("stopped_at")) for t in trials],
            [
                (p.trial, p.accuracy, p.macs_mean)
                for p in sorted(self.store.points("s"), key=lambda p: p.trial)
            ],
        )


def trained(job: Job, at_rung: Rung, end: Outcome) -> list[Any]:
    found: list[Any] = [EpochResult(2, {"val/accuracy": 0.5, "val/macs": 1.0}, {})]
    found += [at_rung] if at_rung.epoch in job.rungs else []
    return [*found, EpochResult(3, {"val/accuracy": 0.5, "val/macs": 1.0}, {}), end]


def growing(job: Job, attempt: int) -> list[Any]:
    """Trainings 0 to 2 halve their loss from the rung on, 3 seems to come too late, those from 4 on gain more."""
    if job.number < 3:
        return trained(job, rung(0.4, 5e6), outcome(0.2, 5e6))
    if job.number == 3:
        return trained(job, rung(0.5, 4e6, outlook=1.5), outcome(0.18, 6e6))
    return trained(job, rung(0.6, 3e6 - 1e5 * job.number), outcome(0.21, 3e6 - 1e5 * job.number))


def test_a_trial_that_cannot_extend_the_front_is_stopped_and_its_points_count(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, STOPPING.replace("trials: 8", "trials: 4"))
    study = bench.drive(growing)
    assert bench.complete
    assert bench.answers == [(0, 2, True), (1, 2, True), (2, 2, True), (3, 2, False)]
    assert bench.states() == {0: "complete", 1: "complete", 2: "complete", 3: "stopped"}
    assert [(p.trial, p.macs_mean) for p in study.front.points] == [(3, 4e6), (0, 5e6)]
    stopped = bench.optuna_trials()[3]
    assert stopped.state.name == "PRUNED"
    assert stopped.user_attrs["stopped"] == {
        "accuracy": pytest.approx(0.55),
        "cost": 4e6,
        "epoch": 2,
    }
    record = bench.store.trial("s", "search", 3)
    assert job_of(bench.spec, record, "none").trained == 2
    assert bench.optuna_trials()[0].values == [pytest.approx(0.82), 5e6]


def test_a_promising_trial_is_resumed_before_a_new_one_is_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, STOPPING)
    study = bench.drive(growing)
    assert bench.started() == [0, 1, 2, 3, 4, 3, 5, 6, 7], (
        "once the fourth shows how much is learned after the rung"
    )
    first, second = [job for job in bench.jobs if job.number == 3]
    assert (first.rungs, second.rungs) == ((2,), ())
    assert second.key == first.key
    assert second.trained is None
    assert bench.states() == dict.fromkeys(range(8), "complete")
    assert bench.optuna_trials()[3].values == [pytest.approx(1 - 0.9 * 0.18), 6e6]
    assert (3, 4e6) not in [(p.trial, p.macs_mean) for p in study.front.points], (
        "what it was at the rung is gone"
    )
    assert (3, 6e6) in [(p.trial, p.macs_mean) for p in study.front.points]


def test_without_early_stopping_no_trial_has_rungs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, STOPPING + "early_stopping: false\n")
    bench.drive(growing)
    assert bench.started() == list(range(8))
    assert {job.rungs for job in bench.jobs} == {()}


def test_a_resumed_trial_is_judged_at_the_rungs_that_are_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path, STOPPING.replace("epochs: 6", "epochs: 18"))  # rungs 2 and 6
    bench.drive(growing)
    assert [job.rungs for job in bench.jobs if job.number == 3] == [(2, 6), (6,)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("whole"), STOPPING)
    bench.drive(growing)
    return bench


def interrupted(script: Script, at: int) -> Script:
    """The script, but instead of its event number `at`, over all trials, the process is killed; once."""
    left = [at]

    def with_kill(job: Job, attempt: int) -> Any:
        for event in script(job, attempt):
            left[0] -= 1
            yield KeyboardInterrupt() if left[0] == -1 else event

    return lambda job, attempt: with_kill(job, attempt)


@pytest.mark.slow
def test_a_driver_that_is_killed_at_any_event_decides_as_an_uninterrupted_one(
    tmp_path: Path, whole: Bench
) -> None:
    # a trial has four events, trial 3 is stopped after two and goes on for three
    for at in range(0, 33, 3):
        bench = Bench(tmp_path / str(at), STOPPING)
        with pytest.raises(KeyboardInterrupt):
            bench.drive(interrupted(growing, at))
        bench.drive(growing)
        assert bench.decisions() == whole.decisions(), at
        # a trial that goes on again, killed before its next epoch, shows its rung again
        assert set(whole.answers) <= set(bench.answers) <= {*whole.answers, (3, 2, True)}, at


WRITES = ("add_trial", "finish_trial", "resume_trial")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("done", [False, True])
def test_a_driver_that_is_killed_at_any_write_decides_as_an_uninterrupted_one(
    tmp_path: Path, whole: Bench, name: str, done: bool
) -> None:
    real = getattr(Store, name)
    for at in (0, 3, 4) if name != "resume_trial" else (0,):
        bench, left = Bench(tmp_path / str(at), STOPPING), [at]

        def killed(self: Store, *given: Any, left: list[int] = left, **named: Any) -> None:
            left[0] -= 1
            if left[0] == -1 and not done:
                raise KeyboardInterrupt
            real(self, *given, **named)
            if left[0] == -1:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, name, killed)
            with pytest.raises(KeyboardInterrupt):
                bench.drive(growing)
        bench.drive(growing)
        assert bench.decisions() == whole.decisions(), at


def test_a_baseline_is_trained_once_a_size_and_trials_of_that_size_start_from_it(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, WARM)
    bench.drive(lambda job, attempt: [outcome(0.5 / (job.number + 1), 1e6)])
    ready: dict[str, Job] = {}
    for job in bench.jobs:
        if job.kind == "static":
            path = str(Checkpoints(tmp_path).path(job.key))
            assert path not in ready, "a size was trained twice"
            assert (job.epochs, job.init_from, job.params["gated"]) == (9, None, False)
            ready[path] = job
        else:
            assert job.init_from in ready
            assert job.epochs == 3
            sizes = {name: ready[job.init_from].params[name] for name in ("backbone", "width")}
            assert sizes.items() <= job.params.items()
    assert [job.kind for job in bench.jobs][:2] == ["static", "search"]
    assert len({job.params["backbone"] for job in ready.values()}) == 2
    assert bench.states() == dict.fromkeys(range(8), "complete")
    bench.drive(growing)
    assert bench.store.trials("s", kind="static", state="running") == []


def test_trials_wait_for_their_baseline_while_others_train(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WARM.replace("[resnet8, resnet14]", "resnet8, width: 1.0"))
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6 * (job.number + 1))], slots=3)
    assert [(job.kind, job.number) for job in bench.jobs] == [
        ("static", 0),
        *(("search", n) for n in range(8)),
    ]


def test_a_study_that_was_killed_while_a_baseline_trained_goes_on_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WARM)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(lambda job, attempt: [KeyboardInterrupt()])
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6 * (job.number + 1))])
    assert [(job.kind, job.number) for job in bench.jobs[:3]] == [
        ("static", 0),
        ("static", 0),
        ("search", 0),
    ]
    assert bench.states() == dict.fromkeys(range(8), "complete")


@pytest.mark.parametrize("slots", [1, 4])
def test_a_baseline_that_fails_fails_those_that_wait_and_is_tried_again(
    tmp_path: Path, slots: int
) -> None:
    def failing(job: Job, attempt: int) -> list[Any]:
        if (job.kind, job.number) == ("static", 0):
            return [Failure("no such file", 1, "")]
        return [outcome(0.5, 1e6)]

    bench = Bench(tmp_path, WARM_SAME)
    bench.drive(failing, slots=slots)
    states = bench.states()
    failed = [number for number, state in states.items() if state == "failed"]
    assert 0 in failed
    assert len(states) == 8
    assert set(states.values()) <= {"failed", "complete"}
    for number in failed:
        record = bench.store.trial("s", "search", number)
        assert record.error == "the baseline that it was to start from failed: no such file"
    assert all(bench.optuna_trials()[number].state.name == "FAIL" for number in failed)
    if slots == 1:
        assert failed == [0]
        assert [(job.kind, job.number) for job in bench.jobs] == [
            ("static", 0),
            ("static", 1),
            ("search", 1),
        ]


def test_equal_candidates_of_a_running_trial_wait_for_it_and_share_its_result(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, ALONE + SAME + "budget: {trials: 4, epochs: 3}\n")
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6)], slots=3)
    assert bench.started() == [0]
    assert bench.states() == dict.fromkeys(range(4), "complete")
    assert [t.of_trial for t in bench.store.trials("s", kind="search")] == [None, 0, 0, 0]
    assert [t.values for t in bench.optuna_trials()] == [[pytest.approx(0.55), 1e6]] * 4


def test_when_a_trial_fails_the_first_equal_candidate_that_waited_is_trained(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, ALONE + SAME + "budget: {trials: 4, epochs: 3}\n")
    bench.drive(
        lambda job, _: [Failure("out of memory", 1, "") if job.number == 0 else outcome(0.5, 1e6)],
        slots=3,
    )
    assert bench.started() == [0, 1]
    assert bench.states() == {0: "failed", 1: "complete", 2: "complete", 3: "complete"}
    assert [t.of_trial for t in bench.store.trials("s", kind="search")] == [None, None, 1, 1]


def test_equal_candidates_still_wait_after_an_interruption(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ALONE + SAME + "budget: {trials: 4, epochs: 3}\n")
    with pytest.raises(KeyboardInterrupt):
        bench.drive(lambda job, attempt: [KeyboardInterrupt()], slots=3)
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6)], slots=3)
    assert bench.started() == [0, 0]
    assert [t.of_trial for t in bench.store.trials("s", kind="search")] == [None, 0, 0, 0]


def test_a_study_opens_again_while_a_trial_that_others_repeat_goes_on(tmp_path: Path) -> None:
    """Trial 3 is stopped, 4 repeats it, then 3 goes on and the driver is killed: 4 keeps what it was answered."""
    bench = Bench(tmp_path, STOPPING.replace("trials: 8", "trials: 4"))
    bench.drive(growing)
    record = bench.store.trial("s", "search", 3)
    assert record.state == "stopped"
    bench.store.add_trial("s", "search", 4, record.family, record.params, 1, record.epochs)
    bench.store.finish_trial(
        "s", "search", 4, points=[], result=record.result, seconds=0.0, of_trial=3
    )
    bench.store.resume_trial("s", "search", 3)
    bench.spec = parse_study(STOPPING, "s.yml")
    study = bench.drive(growing)
    assert bench.states() == dict.fromkeys(range(8), "complete")
    assert study.history.trials[4].curve == pytest.approx(np.array([[0.5, 0.4]]))
    assert study.history.trials[3].curve == pytest.approx(np.array([[0.18, 0.6]]))


FLAT = ALONE + "budget: {trials: 30, epochs: 3, plateau: {trials: 4, growth: 0.01}}\n"


def flat(job: Job, attempt: int) -> list[Any]:
    """Ten trainings of which each is better than the last, then nothing new."""
    return [outcome(0.8 - 0.05 * min(job.number, 9), 5e6)]


def test_a_study_ends_when_its_front_grows_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FLAT)
    assert bench.drive(flat).front.plateau
    assert bench.complete
    assert len(bench.states()) == 14
    assert bench.drive(flat).front.plateau, "and stays ended"
    assert len(bench.states()) == 14


def test_a_plateau_is_seen_across_an_interruption(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FLAT)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(interrupted(flat, 12))
    assert bench.drive(flat).front.plateau
    assert len(bench.states()) == 14


def test_a_front_that_grows_is_no_plateau(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FLAT.replace("trials: 30", "trials: 9"))
    assert not bench.drive(flat).front.plateau
    assert bench.complete


@pytest.mark.parametrize(
    "objectives", ["accuracy", "accuracy, macs", "accuracy, macs_p95, parameters"]
)
@pytest.mark.parametrize("sampler", ["growth", "tpe"])
def test_studies_of_one_to_three_objectives_run_to_their_end(
    tmp_path: Path, objectives: str, sampler: str
) -> None:
    text = STOPPING.replace("trials: 8", "trials: 12").replace(
        "sampler: random", f"sampler: {sampler}"
    )
    bench = Bench(tmp_path, text + f"objectives: [{objectives}]\n")

    def made(job: Job, attempt: int) -> list[Any]:
        loss, cost = (job.number * 7 % 12 + 1) / 14, ((job.number * 5 + 6) % 12 + 1) * 7e5
        return trained(
            job, rung(loss, cost), outcome(loss / 2, cost, parameters=2000 - 100 * job.number)
        )

    study = bench.drive(made)
    assert bench.complete
    assert set(bench.states().values()) <= {"complete", "stopped"}
    assert len(bench.states()) == 12
    size = len(objectives.split(", "))
    assert {len(t.values or ()) for t in bench.optuna_trials() if t.state.name == "COMPLETE"} == {
        size
    }
    assert (len(study.front.points) == 1) is (size == 1)
    again = bench.drive(made)
    assert [p.trial for p in again.front.points] == [p.trial for p in study.front.points]


def test_what_is_beyond_the_limits_fails_before_training(tmp_path: Path) -> None:
    text = BASE + "warm_start: false\nbudget: {trials: 10, epochs: 6}\nlimits: {macs: 1M}\n"
    bench = Bench(
        tmp_path, text + "space: {gated_resnet: {backbone: [resnet8, resnet14, resnet20]}}\n"
    )
    bench.drive(lambda job, attempt: [outcome(0.5, 1e6 * (job.number + 1))])
    states = bench.states()
    sizes = {t.number: t.params["backbone"] for t in bench.store.trials("s", kind="search")}
    assert {sizes[number] for number, state in states.items() if state == "complete"} == {"resnet8"}
    assert {sizes[number] for number, state in states.items() if state == "failed"} == {
        "resnet14",
        "resnet20",
    }
    assert sorted(bench.started()) == [
        number for number, state in states.items() if state == "complete"
    ]
    errors = [failure.error for failure in bench.store.failures("s")]
    assert all(
        error.endswith("MACs with everything open, limits.macs allows 1.00 M") for error in errors
    )


def test_sampler_and_rungs_look_at_the_region_as_far_as_the_front_has_come(tmp_path: Path) -> None:
    text = STOPPING + "region: {max_macs: 4M, min_accuracy: 0.91}\n"
    bench = Bench(tmp_path, text.replace("trials: 8", "trials: 1"))
    study = bench.drive(lambda job, attempt: [outcome(0.5, 1e6)])
    assert study.history.corner == pytest.approx(np.array([0.5, 0.4]))
    bench.spec = parse_study(text.replace("trials: 8", "trials: 2"), "s.yml")
    study = bench.drive(lambda job, attempt: [outcome(0.05, 1e6)])
    assert study.history.corner == pytest.approx(np.array([0.1, 0.4]))


# trials of 6, a rung after 2
RIVALS = WARM.replace("early_stopping: false\n", "").replace("epochs: 9", "epochs: 18")


def beaten(job: Job, attempt: int) -> list[Any]:
    """The baselines are cheaper and better than all that their trials learn; at the rung nothing else is known."""
    if job.kind == "static":
        return [EpochResult(18, {"val/accuracy": 0.5, "val/macs": 1.0}, {}), outcome(0.1, 1e6)]
    return trained(job, rung(0.4, 5e6), outcome(0.2, 5e6 + 1e5 * job.number))


def test_a_baseline_that_no_trial_beats_is_on_the_front_and_stops_trials(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RIVALS)
    study = bench.drive(beaten)
    assert {p.kind for p in study.front.points} == {"static"}
    assert study.history.baselines[0].tolist() == [[pytest.approx(0.1), pytest.approx(0.1)]]
    stopped = [number for number, state in bench.states().items() if state == "stopped"]
    assert len(stopped) == 8 - 3, "once three have shown what is still learned after the rung"
    record = bench.store.study("s")
    members, points, static, volume = study_front(bench.store, record)
    assert [p.training for p in members] == [("static", 0)]
    assert {p.kind for p in points} == {"search", "static"}
    assert {p.kind for p in static} == {"static"}
    assert volume == pytest.approx(0.9 * 0.9)


def test_a_study_that_goes_on_knows_its_baselines_still(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RIVALS)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(
            lambda job, attempt: [KeyboardInterrupt()] if job.number == 5 else beaten(job, attempt)
        )
    bench.drive(beaten)
    other = Bench(tmp_path / "other", RIVALS)
    other.drive(beaten)
    assert bench.decisions() == other.decisions()
    assert len(bench.scheduler.history.baselines) == 2, "one a size"


def test_trials_of_full_length_start_from_scratch_and_are_compared_among_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.schedule.training_length.PATIENCE", 2)
    for module in ("training_length", "growth_sampler", "optuna_sampler"):
        monkeypatch.setattr(f"search.schedule.{module}.STARTUP", 1)
    bench = Bench(tmp_path, RIVALS)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(
            lambda job, attempt: [KeyboardInterrupt()] if job.number == 6 else beaten(job, attempt)
        )
    bench.drive(beaten)
    jobs = {job.number: job for job in bench.jobs if job.kind == "search"}
    lengths = [jobs[number].epochs for number in range(8)]
    assert lengths == [6, 6, 6, 6, 18, 18, 18, 18], (
        "the fourth was asked while the third was trained"
    )
    assert all("plain-" in str(jobs[number].init_from) for number in range(4))
    assert all(jobs[number].init_from is None for number in range(4, 8))
    assert {job.kind for job in bench.jobs if job.epochs == 18 and job.init_from is None} == {
        "search",
        "static",
    }
    stopped = [number for number, state in bench.states().items() if state == "stopped"]
    assert stopped == [3, 7], "three of that length have to end first"
    other = Bench(tmp_path / "other", RIVALS)
    other.drive(beaten)
    assert bench.decisions() == other.decisions()
