"""Points of a study timed as the whole networks that they would be shipped as, beside what its table predicts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.export.static_net import baseline_beside
from search.front.stored import study_cost, study_front
from search.latency.table import LatencyTable, read_table
from search.latency.whole import elsewhere, whole_ms
from search.run.job import Job
from search.run.jobs import job_of
from search.run.measured_net import measured_net
from search.run.worker import trained_net
from search.spec import StudySpec, stored_spec
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
    spec, cost = stored_spec(record.spec), study_cost(record)
    if cost.needed != "latency" or spec.latency is None:
        return 0
    try:
        table = read_table(Path(spec.latency))
        why = elsewhere(table)
    except ValueError as error:
        why = str(error)
    if why is not None:
        say(f"finalists keep their predicted latency: {why}")
        return 0
    front = study_front(store, record, cascades=False)
    wanted = [p for p in front.members if p.kind == Kind.SEARCH and p.trial in trials]
    wanted = [p for p in wanted if TIMED not in p.extra]
    bench = _Bench(store, spec, settings, table, front.baselines)
    return sum(bench.timed(p, say, doing) for p in wanted)


@dataclass
class _Bench:
    """What points of one study are timed with; each static network is read once."""

    store: Store
    spec: StudySpec
    settings: Settings
    table: LatencyTable
    baselines: Sequence[PointRecord]
    _static: dict[Any, tuple[DeployedNet, Split]] = field(default_factory=dict)

    def timed(
        self, p: PointRecord, say: Callable[[str], None], doing: Callable[[str], None]
    ) -> bool:
        """Time one point and store it; False where its network cannot be read, which is said."""
        doing(f"timing point {p.id} of {training_text(*p.training)}")
        knobs = Knobs(**p.knobs)
        try:
            net, _, data = measured_net(self._job(p), knobs)
            theirs, images = self._beside(p, ship_baseline(net), data.validation)
        except ValueError as error:
            say(f"point {p.id} keeps its predicted latency: {error}")
            return False
        ours = ship(net, knobs, p.rates)
        measured, static = whole_ms((ours, theirs), (data.validation, images), self.table)
        assert p.id is not None
        self.store.add_timing(p.id, measured, static)
        return True

    def _beside(self, p: PointRecord, own: DeployedNet, split: Split) -> tuple[DeployedNet, Split]:
        """The study's static network to compare with; `own`, of the same backbone, where it has no other."""
        beside = baseline_beside(p, self.baselines, self.spec.cost)
        if beside is None:
            return own, split
        training = beside[0].training
        if training not in self._static:
            net, _, data = trained_net(self._job(beside[0]))
            self._static[training] = ship_baseline(net), data.validation
        return self._static[training]

    def _job(self, p: PointRecord) -> Job:
        trial, own = self.store.trial(self.spec.study, *p.training), self.settings
        return job_of(self.spec, trial, str(own.checkpoints), store=own.store)
