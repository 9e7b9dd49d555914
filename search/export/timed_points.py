"""Points of a study timed as the whole networks that they would be shipped as, beside what its table predicts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.export.members import deployed_cascade, largest_of, loaded_members, member_jobs
from search.export.static_net import baseline_beside
from search.front.pick import NO_LATENCY
from search.front.stored import study_cost, study_front
from search.latency.drift import drift_text
from search.latency.table import LatencyTable, read_table
from search.latency.whole import elsewhere, whole_ms
from search.objectives import LATENCY
from search.run.job import Job
from search.run.jobs import job_of
from search.run.measured_net import measured_net
from search.run.worker import trained_net
from search.spec import StudySpec, stored_spec
from spaces.contract.cascades import is_cascade
from spaces.contract.knobs import Knobs
from spaces.deploy.ship import DeployedNet, ship, ship_baseline
from storage.records import TIMED, Kind, PointRecord, StudyRecord, training_text
from storage.settings import Settings
from storage.store import Store
from trainers.data.splits import Split

logger = logging.getLogger(f"dynafront.{__name__}")


def time_finalists(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    trials: Sequence[int],
    say: Callable[[str], None],
    doing: Callable[[str], None] = lambda line: None,
) -> int:
    """Time the points that these trials have on the front, those that were not timed yet; returns how many.

    On validation images, in turn with the static network of the study that stands beside each; what was found is
    stored. A study that minimises no latency has none. Where the table is of another machine, one line is said, and
    the prediction stays alone.
    """
    if study_cost(record).needed != "latency" or stored_spec(record.spec).latency is None:
        return 0
    front = study_front(store, record, cascades=False)
    try:
        timer = PointTimer.of(store, record, settings, front.baselines)
    except ValueError as error:
        say(f"finalists keep their predicted latency: {error}")
        return 0
    wanted = [p for p in front.members if p.kind == Kind.SEARCH and p.trial in trials]
    wanted = [p for p in wanted if TIMED not in p.extra]
    return sum(timer.timed(p, say, doing) is not None for p in wanted)


@dataclass
class PointTimer:
    """What points of one study are timed with; each static network is read once."""

    store: Store
    spec: StudySpec
    settings: Settings
    table: LatencyTable
    baselines: Sequence[PointRecord]
    _static: dict[Any, tuple[DeployedNet, Split]] = field(default_factory=dict)
    _told: bool = False  # that the machine is not as fast as when the table was made

    @classmethod
    def of(
        cls,
        store: Store,
        record: StudyRecord,
        settings: Settings,
        baselines: Sequence[PointRecord],
    ) -> PointTimer:
        """For this study and its baselines. Raises ValueError that says why nothing can be timed here."""
        spec = stored_spec(record.spec)
        if spec.latency is None:
            raise ValueError(NO_LATENCY)
        table = read_table(Path(spec.latency))
        if (why := elsewhere(table)) is not None:
            raise ValueError(why)
        return cls(store, spec, settings, table, baselines)

    def timed(
        self, p: PointRecord, say: Callable[[str], None], doing: Callable[[str], None]
    ) -> float | None:
        """Time one point and store it; returns its ms an image. None where its network cannot be read: that is said."""
        doing(f"timing point {p.id} of {training_text(*p.training)}")
        try:
            ours, own, images = self._network(p)
            beside = baseline_beside(p, self.baselines, self.spec.cost)
            theirs, their_images = self._baseline(beside[0]) if beside else (own, images)
        except ValueError as error:
            say(f"point {p.id} keeps its predicted latency: {error}")
            return None
        measured, static = whole_ms((ours, theirs), (images, their_images), self.table)
        assert p.id is not None
        self.store.add_timing(p.id, measured, static)
        if beside and not self._told and (drift := drift_text(static, LATENCY.of(beside[0]))):
            self._told = True
            say(drift)
        return measured

    def _network(self, p: PointRecord) -> tuple[DeployedNet, DeployedNet, Split]:
        """The network that would be shipped, its backbone without dynamics, and validation images of their size."""
        if is_cascade(p.knobs):
            loaded = loaded_members(member_jobs(self.store, self.spec, self.settings, p))
            largest = largest_of(loaded)
            static = ship_baseline(largest.trained.net)
            return deployed_cascade(loaded, p.knobs), static, largest.data.validation
        knobs = Knobs(**p.knobs)
        net, _, data = measured_net(self._job(p), knobs)
        return ship(net, knobs, p.rates), ship_baseline(net), data.validation

    def _baseline(self, p: PointRecord) -> tuple[DeployedNet, Split]:
        """A static network of the study, and validation images of its size."""
        if p.training not in self._static:
            net, _, data = trained_net(self._job(p))
            self._static[p.training] = ship_baseline(net), data.validation
        return self._static[p.training]

    def _job(self, p: PointRecord) -> Job:
        trial, own = self.store.trial(self.spec.study, *p.training), self.settings
        return job_of(self.spec, trial, str(own.checkpoints), store=own.store)
