"""Studies to drive in tests: files of studies, and trainings made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from search.objectives import Reference
from search.run.job import Job, Outcome, Rung
from search.schedule.scheduler import Scheduler
from search.spec import parse_study
from spaces.contract.task import Task
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
WARM += "budget: {trials: 8, epochs: 9, warm_epochs: 3}\n"
ALONE = BASE + "warm_start: false\nearly_stopping: false\n"
SAME = "space: {gated_resnet: {backbone: resnet8, granularity: layer, gate: independent, loss: none, lr: 0.1, "
SAME += "weight_decay: 0.001}}\n"
WARM_SAME = BASE + "early_stopping: false\nbudget: {trials: 8, epochs: 9, warm_epochs: 3}\n" + SAME
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
    url: str = ""  # of the database; a file in the folder where it is empty
    jobs: list[Job] = field(default_factory=list)  # in the order of starting
    answers: list[tuple[int, int, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.store = Store.open(self.url or f"sqlite:///{self.folder / 'db.sqlite'}")
        self.storage: optuna.storages.BaseStorage = optuna.storages.InMemoryStorage()
        self.spec = parse_study(self.text, "s.yml")
        self.store.add_study("s", self.spec.model_dump(mode="json"), self.text, REFERENCE.as_dict())

    def drive(
        self, script: Script, *, slots: int = 1, planned: int = 1, **settings: Any
    ) -> Scheduler:
        """`slots` trainings at once; suggestions are made for `planned` at once."""

        def started(job: Job, attempt: int) -> list[Any]:
            self.jobs.append(job)
            return script(job, attempt)

        engine = Scripted(started, slots)
        settings = {
            "reference": REFERENCE,
            "checkpoints": str(self.folder),
            "follower": Follower(),
            "slots": planned,
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


def interrupted(script: Script, at: int) -> Script:
    """The script, but instead of its event number `at`, over all trials, the process is killed; once."""
    left = [at]

    def with_kill(job: Job, attempt: int) -> Any:
        for event in script(job, attempt):
            left[0] -= 1
            yield KeyboardInterrupt() if left[0] == -1 else event

    return lambda job, attempt: with_kill(job, attempt)
