"""The measures of a trained network at one of its operating points, made anew from its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search.commands.same_data import check_same_data
from search.inspection.forward_pass import Effort
from search.inspection.measures import Inspection, inspect_network
from search.run.data import data_spec
from search.run.jobs import job_of
from search.run.measured_net import measured_net
from search.spec import stored_spec
from spaces.contract.cascades import is_cascade
from spaces.contract.knobs import Knobs
from storage.records import Kind, PointRecord, StudyRecord
from storage.settings import Settings
from storage.store import Store
from trainers.execution import Execution, best_device
from trainers.feature_files import FeatureFiles
from trainers.frozen import rows_of


def measured(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    point: PointRecord,
    say: Callable[[str], None],
    effort: Effort | None = None,
    files: FeatureFiles | None = None,
) -> Inspection:
    """What the point's network does with images of validation; heads of a frozen trunk read features out of `files`.

    Raises ValueError where its checkpoint is gone, or the images are not those that it was trained on.
    """
    effort = effort or Effort()
    if is_cascade(point.knobs):
        asked = ", ".join(f"--trial {m['trial']}" for m in _searched(point))
        raise ValueError(
            f"point {point.id} is a cascade of several networks; inspect one of them"
            + (f": {asked}" if asked else "")
        )
    trial = store.trial(record.name, point.kind, point.trial)
    spec, knobs = stored_spec(record.spec), Knobs(**point.knobs)
    job = job_of(spec, trial, str(settings.checkpoints), store=settings.store)
    check_same_data(store, record.name, data_spec(spec))
    execution = Execution(device=best_device())
    net, _, data = measured_net(job, knobs, say, execution)
    images = len(data.validation)
    say(f"measuring on {min(effort.images, images):,} of {images:,} validation images")
    features = None
    if files is not None:
        features = rows_of(net, data.validation, data, files=files, execution=execution)
    return inspect_network(
        net,
        data,
        knobs,
        rates=point.rates,
        execution=execution,
        seed=trial.seed,
        effort=effort,
        features=features,
    )


def _searched(point: PointRecord) -> list[dict[str, Any]]:
    """The members of a cascade that are trials of the search."""
    return [one for one in point.knobs["members"] if one["kind"] == Kind.SEARCH]
