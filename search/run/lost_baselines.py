"""Baselines whose checkpoint is gone: one from which a trial starts is trained again, as it was the first time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from search.run.job import Failure, Job
from search.run.jobs import job_of
from search.schedule.decisions import Start, Trial
from search.spec import StudySpec
from spaces.contract.registry import candidate_of
from storage.checkpoints import Checkpoints
from storage.kept_files import KeptFiles
from storage.records import Kind, State, TrialRecord
from storage.store import Store

Lost = Callable[[Job], TrialRecord | None]


@dataclass
class LostBaselines:
    """Which baselines are trained again, and which trials wait for them. `lost` names the one that a job misses."""

    lost: Lost = lambda job: None
    ready: deque[Start] = field(default_factory=deque)  # trials whose baseline is there again
    # why one is not trained once more in this session: it would help no more than the last time
    _hopeless: dict[tuple[Kind, int], Failure] = field(default_factory=dict)
    _waiting: dict[tuple[Kind, int], list[Start]] = field(default_factory=dict)

    def hold(self, baseline: Trial, start: Start) -> bool:
        """The trial waits for the baseline; True if that is to be trained now, for others do not wait already."""
        first = baseline.name not in self._waiting
        self._waiting.setdefault(baseline.name, []).append(start)
        return first

    def is_trained_again(self, trial: Trial) -> bool:
        return trial.name in self._waiting

    def found(self, baseline: Trial) -> None:
        """It is there again."""
        self._hopeless[baseline.name] = Failure("its checkpoint cannot be read", None, "")
        self.ready.extend(self._waiting.pop(baseline.name))

    def hopeless(self, baseline: Trial) -> Failure | None:
        """Why it is not trained again, where it was or could not be before."""
        return self._hopeless.get(baseline.name)

    def failed(self, baseline: Trial, failure: Failure) -> list[Start]:
        """It cannot be trained again; returns the trials that waited."""
        self._hopeless[baseline.name] = failure
        return self._waiting.pop(baseline.name)


def lost_in(
    store: Store, spec: StudySpec, checkpoints: str, files: KeptFiles | None = None
) -> Lost:
    """Names the baseline that a job starts or learns from, if it is stored as trained and its weights are lost.

    `files` finds those of other machines.
    """
    saved = Checkpoints(Path(checkpoints), files)

    def lost(job: Job) -> TrialRecord | None:
        needed = {job.init_from, job.teacher} - {None}
        if not needed or job.kind == Kind.BASELINE:
            return None
        for record in store.trials(spec.study, kind=Kind.BASELINE, state=State.COMPLETE):
            known = job_of(spec, record, checkpoints)
            if str(saved.path(known.key)) in needed:
                found = saved.load(known.key, latest=True)
                intact = found is not None and found[1].get("epochs_done") == record.epochs
                return None if intact else record
        return None

    return lost


def trial_of(record: TrialRecord) -> Trial:
    """A stored training as something to be trained."""
    return Trial(record.kind, record.number, candidate_of(record), record.seed)
