"""Exporting a cascade of a study's front."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.export.extras import Extras
from search.spec import StudySpec
from storage.records import PointRecord
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
    from search.export.cascade import export_cascade
    from search.export.members import member_jobs

    return export_cascade(
        member_jobs(store, spec, settings, point),
        study=spec.study,
        knobs=dict(point.knobs),
        validation=validation,
        folder=folder,
        beside=beside,
        extras=extras,
        force=force,
        say=say,
    )
