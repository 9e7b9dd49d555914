"""From a cascade of the front to a folder that runs anywhere, as `search.export.export` does from one network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.export.cascade_comparison import compare_cascade
from search.export.curve import only_point
from search.export.export import (
    Exported,
    Measured,
    check_folder,
    measured_beside,
    origin,
    write_folder,
)
from search.export.extras import PLAIN, Extras
from search.export.folder import FORMAT, preprocessing_of
from search.export.predicted import beside_prediction
from search.export.selection_bias import selection_bias
from search.export.static_net import Beside, static_net
from search.run.cascade_passes import TrainedMember
from search.run.job import Job
from search.run.measured_net import measured_net
from spaces.contract.cascades import CASCADE, rule_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.deploy.cascade import DeployedCascade, deploy
from storage.records import Kind
from trainers.data.splits import ImageData, test_split
from trainers.metrics import METRICS


@dataclass(frozen=True)
class MemberJob:
    """The job that trained a member, and the setting that it has in the cascade."""

    job: Job
    knobs: dict[str, Any]
    rates: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class _Loaded:
    """A member as it was trained."""

    job: Job
    trained: TrainedMember
    candidate: Candidate
    data: ImageData

    @property
    def side(self) -> int:
        return self.data.height * self.data.width


def export_cascade(
    members: Sequence[MemberJob],
    *,
    study: str,
    knobs: dict[str, Any],
    validation: Mapping[str, Any],
    folder: Path,
    beside: Beside | None = None,
    extras: Extras = PLAIN,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Make the folder from the trained members; `knobs` are the cascade's. Else as `search.export.export.export`."""
    check_folder(folder, force)
    loaded = [_loaded(one, say) for one in members]
    compact = deploy(
        [one.trained.net for one in loaded],
        [one.trained.knobs for one in loaded],
        [one.trained.rates for one in loaded],
        rule_of(knobs),
    )
    largest = max(loaded, key=lambda one: one.side)
    test, metric = test_split(largest.job.data), METRICS[largest.job.metric]
    say(f"measuring on {len(test)} test images")
    report, counts = compare_cascade([one.trained for one in loaded], compact, test, metric)
    report["metric"] = metric.name
    static = static_net(largest.trained.net, beside, test)
    measured = Measured(compact, test, largest.data.validation, counts, report)
    files = measured_beside(measured, static, extras, say)
    report["validation"] = dict(validation)
    report["predicted"] = beside_prediction(
        largest.job.latency, validation, compact, test, static, files.programs, say
    )
    images = len(largest.data.validation)
    report["selection_bias"] = selection_bias(validation, images, report["test"], metric)
    values = list(compact.thresholds.values())
    description = _description(loaded, compact, largest.data) | {
        "thresholds": compact.thresholds,
        "points": [only_point(values, validation, report["test"])],
        "study": study,
        "knobs": knobs,
        "report": report,
    }
    write_folder(folder, compact, description, files.saves)
    return Exported(folder, report, compact, 1)


def _loaded(member: MemberJob, say: Callable[[str], None]) -> _Loaded:
    knobs = Knobs(**member.knobs)
    net, candidate, data = measured_net(member.job, knobs, say)
    return _Loaded(member.job, TrainedMember(net, knobs, member.rates, data), candidate, data)


def _description(
    loaded: Sequence[_Loaded], compact: DeployedCascade, data: ImageData
) -> dict[str, Any]:
    """What model.json says of the network and where it comes from."""
    parts = [
        {
            "family": one.candidate.family.name,
            "config": asdict(one.candidate.config),
            "task": one.trained.net.task.as_dict(),
            "network": network,
        }
        for one, network in zip(loaded, compact.descriptions(), strict=True)
    ]
    return {
        "format": FORMAT,
        "family": CASCADE,
        "config": {},
        "task": compact.task.as_dict(),
        "classes": list(data.classes),
        "preprocessing": preprocessing_of(data),
        "network": compact.description() | {"members": parts},
        "kind": Kind.CASCADE,
        "trial": 0,
        "params": {},
        "members": [{"family": one.job.family} | origin(one.job) for one in loaded],
    }
