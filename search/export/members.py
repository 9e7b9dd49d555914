"""The members of a cascade, as they were trained, and the one network that they are together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.run.cascade_passes import TrainedMember
from search.run.job import Job
from search.run.jobs import job_of
from search.run.measured_net import measured_net
from search.spec import StudySpec
from spaces.contract.cascades import rule_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.deploy.cascade import DeployedCascade, deploy
from storage.records import PointRecord, rates_of, trainings_of
from storage.settings import Settings
from storage.store import Store
from trainers.data.splits import ImageData


@dataclass(frozen=True)
class MemberJob:
    """The job that trained a member, and the setting that it has in the cascade."""

    job: Job
    knobs: dict[str, Any]
    rates: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class LoadedMember:
    """A member as it was trained."""

    job: Job
    trained: TrainedMember
    candidate: Candidate
    data: ImageData

    @property
    def side(self) -> int:
        return self.data.height * self.data.width


def member_jobs(
    store: Store, spec: StudySpec, settings: Settings, point: PointRecord
) -> list[MemberJob]:
    """The jobs that trained the members of a stored cascade."""
    trials = (store.trial(spec.study, *training) for training in trainings_of(point))
    jobs = [job_of(spec, one, str(settings.checkpoints), store=settings.store) for one in trials]
    return [
        MemberJob(job, one["knobs"], rates_of(one["rates"]))
        for job, one in zip(jobs, point.knobs["members"], strict=True)
    ]


def loaded_members(
    members: Sequence[MemberJob], say: Callable[[str], None] = lambda line: None
) -> list[LoadedMember]:
    """The members as they were trained."""
    return [_loaded(one, say) for one in members]


def _loaded(member: MemberJob, say: Callable[[str], None]) -> LoadedMember:
    knobs = Knobs(**member.knobs)
    net, candidate, data = measured_net(member.job, knobs, say)
    trained = TrainedMember(net, knobs, member.rates, data)
    return LoadedMember(member.job, trained, candidate, data)


def deployed_cascade(loaded: Sequence[LoadedMember], knobs: Mapping[str, Any]) -> DeployedCascade:
    """The members as one network, with these settings of the cascade."""
    nets, settings, rates = zip(
        *((one.trained.net, one.trained.knobs, one.trained.rates) for one in loaded), strict=True
    )
    return deploy(nets, settings, rates, rule_of(knobs))


def largest_of(loaded: Sequence[LoadedMember]) -> LoadedMember:
    """The member that takes the largest images, at whose size the cascade takes them."""
    return max(loaded, key=lambda one: one.side)
