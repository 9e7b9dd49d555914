"""From a cascade of the front to a folder that runs anywhere, as `search.export.export` does from one network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
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
from search.export.members import (
    LoadedMember,
    MemberJob,
    deployed_cascade,
    largest_of,
    loaded_members,
)
from search.export.static_net import Beside, static_net
from spaces.contract.cascades import CASCADE
from spaces.deploy.cascade import DeployedCascade
from storage.records import Kind
from trainers.data.splits import ImageData, test_split
from trainers.metrics import METRICS


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
    loaded = loaded_members(members, say)
    compact = deployed_cascade(loaded, knobs)
    largest = largest_of(loaded)
    test, metric = test_split(largest.job.data), METRICS[largest.job.metric]
    say(f"measuring on {len(test)} test images")
    report, counts = compare_cascade([one.trained for one in loaded], compact, test, metric)
    report["metric"] = metric.name
    report["validation"] = dict(validation)
    static = static_net(largest.trained.net, beside, test)
    measured = Measured(compact, test, largest.data.validation, counts, report)
    saves = measured_beside(measured, static, largest.job.latency, extras, say)
    values = list(compact.thresholds.values())
    description = _description(loaded, compact, largest.data) | {
        "thresholds": compact.thresholds,
        "points": [only_point(values, validation, report["test"])],
        "study": study,
        "knobs": knobs,
        "report": report,
    }
    write_folder(folder, compact, description, saves)
    return Exported(folder, report, compact, 1)


def _description(
    loaded: Sequence[LoadedMember], compact: DeployedCascade, data: ImageData
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
