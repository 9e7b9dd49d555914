"""Exporting a cascade of a study's front: the jobs of its members, from our tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.export.extras import Extras
from search.run.jobs import job_of
from search.spec import StudySpec
from storage.records import PointRecord, rates_of, trainings_of
from storage.settings import Settings
from storage.store import Store

if TYPE_CHECKING:
    from search.export.export import Exported
    from search.export.static_net import Beside


def exported_cascade(
    store: Store,
    spec: StudySpec,
    settings: Settings,
    point: PointRecord,
    *,
    validation: Mapping[str, Any],
    beside: Beside | None,
    extras: Extras,
    folder: Path,
    force: bool,
    say: Callable[[str], None],
) -> Exported:
    """Export it; `validation` is what that said of it. Raises ValueError where the checkpoint of a member is gone."""
    from search.export.cascade import MemberJob, export_cascade

    members = []
    for training, one in zip(trainings_of(point), point.knobs["members"], strict=True):
        job = job_of(
            spec,
            store.trial(spec.study, *training),
            str(settings.checkpoints),
            store=settings.store,
        )
        members.append(MemberJob(job, one["knobs"], rates_of(one["rates"])))
    return export_cascade(
        members,
        study=spec.study,
        knobs=dict(point.knobs),
        validation=validation,
        folder=folder,
        beside=beside,
        extras=extras,
        force=force,
        say=say,
    )
