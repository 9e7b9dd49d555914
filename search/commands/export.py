"""Exporting a point of a study's front."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search.commands.choice import Choice, cheaper_text, expected_of, within_region
from search.commands.export_cascade import exported_cascade
from search.commands.export_text import export_lines
from search.commands.same_data import check_same_data
from search.commands.timed_choice import chosen_by_time
from search.export.extras import PLAIN, Extras
from search.export.folder import PICTURES
from search.export.limits import LIMITS
from search.front.flattery import Expected
from search.front.metric import named
from search.front.stored import StudyFront, study_cost, study_costs, study_front
from search.objectives import LATENCY
from search.report.amounts import macs
from search.report.text import knobs_text
from search.run.data import data_spec
from search.run.jobs import job_of
from search.spec import stored_spec
from spaces.contract.cascades import is_cascade
from storage.errors import StorageError
from storage.mlflow_models import loading_line
from storage.places import stored_place
from storage.records import PointRecord, StudyRecord, training_text
from storage.settings import Settings
from storage.store import Store
from trainers.metrics import METRICS

if TYPE_CHECKING:
    from search.export.curve import Setting
    from search.export.export import Exported


def export_choice(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    choice: Choice,
    place: Path | str,
    *,
    register: bool,
    force: bool = False,
    extras: Extras = PLAIN,
    say: Callable[[str], None],
) -> list[str]:
    """Export the chosen point; returns lines that say what came out. Raises ValueError with the nearest offer.

    `place` is a folder, or a URL. One that holds an earlier export is refused without `force`.
    """
    _check(place, force, extras)
    point = chosen_by_time(store, record, settings, choice, say)
    choice = within_region(choice, record)
    return export_point(
        store,
        record,
        settings,
        point,
        choice,
        place,
        register=register,
        force=force,
        extras=extras,
        say=say,
    )


def export_point(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    point: PointRecord,
    choice: Choice,
    place: Path | str,
    *,
    register: bool,
    force: bool = False,
    extras: Extras = PLAIN,
    say: Callable[[str], None],
) -> list[str]:
    """Export the point, which was picked by `choice`; returns lines that say what came out."""
    from search.export.remote_folder import folder_to_fill

    _check(place, force, extras)
    found = study_front(store, record, choice.family)
    training, metric = training_text(*point.training), METRICS[point.metric]
    reached = named(f"{point.accuracy:.2%}", metric)
    which = "" if choice.point is not None else f"{choice.words(metric)}: "
    expected = expected_of(point, choice, found, record)
    say(
        f"{which}point {point.id} of {training}, {reached} on validation{_expect(expected)} at {macs(point.macs_mean)}"
    )
    if is_cascade(point.knobs):
        say(knobs_text(point.knobs))
    if cheaper := cheaper_text(point, choice, found, record):
        say(cheaper)
    if extras.exit is not None:
        point, expected = _ended(store, record, settings, point, extras.exit, say), None
    with folder_to_fill(place, force) as folder:
        exported = _export(
            store,
            record,
            settings,
            point,
            found,
            folder,
            say,
            expected=expected,
            limits={} if extras.exit is not None else choice.bounds.by_column(study_cost(record)),
            force=force,
            extras=extras,
        )
        uri = _kept(
            store,
            record,
            settings,
            point,
            choice,
            exported,
            place,
            exit=extras.exit,
            register=register,
            say=say,
        )
    lines = export_lines(place, exported.report, exported.points)
    if is_cascade(point.knobs):
        lines.insert(1, f"  cascade   {knobs_text(point.knobs)}")
    return lines if uri is None else [*lines, f"  MLflow    {loading_line(settings, uri)}"]


def _check(place: Path | str, force: bool, extras: Extras) -> None:
    """Raise ValueError for what is refused before anything is read."""
    from search.export.export import check_folder

    extras.check()
    if isinstance(place, Path):
        check_folder(place, force)


def _ended(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    point: PointRecord,
    exit: int,
    say: Callable[[str], None],
) -> PointRecord:
    """The point with its network ended at this exit, measured on validation."""
    from search.export.ended import ended_point

    if is_cascade(point.knobs):
        raise ValueError(
            f"--exit {exit}: point {point.id} is a cascade; leave it out, or choose a --point of one network"
        )
    spec = stored_spec(record.spec)
    check_same_data(store, record.name, data_spec(spec))
    trial = store.trial(record.name, point.kind, point.trial)
    job = job_of(spec, trial, str(settings.checkpoints), store=settings.store)
    ended = ended_point(job, point, exit, say)
    reached = named(f"{ended.accuracy:.2%}", METRICS[ended.metric])
    say(f"ended at exit {exit}: {reached} on validation at {macs(ended.macs_mean)}")
    return ended


def _kept(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    point: PointRecord,
    choice: Choice,
    exported: Exported,
    place: Path | str,
    *,
    exit: int | None,
    register: bool,
    say: Callable[[str], None],
) -> str | None:
    """Put the exported model where it is wanted, remember it, and register it; returns its address in MLflow."""
    from search.export.remote_folder import put_folder

    if not isinstance(place, Path):
        say(f"putting it into {place}")
        put_folder(exported.folder, place)
    where = place if isinstance(place, str) else stored_place(place, settings.folder)
    pick = choice.alias if exit is None else f"{choice.alias}-exit-{exit}"
    stored = store.add_export(
        record.name, pick=pick, folder=where, report=exported.report, point=point.id
    )
    if not register:
        return None
    uri = _register(store, record, settings, point, pick, exported.folder, place, say)
    store.set_model_uri(stored.id, uri)
    return uri


def _register(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    point: PointRecord,
    alias: str,
    folder: Path,
    place: Path | str,
    say: Callable[[str], None],
) -> str:
    """Put the exported model into MLflow, and the study where it is not there; returns the model's address."""
    from search.commands.inspect import inspect_point
    from search.export.register import register
    from search.run.view import View

    if not is_cascade(point.knobs):  # whose members have pictures of their own
        say("drawing what the model does")
        inspect_point(store, record, settings, point, folder / PICTURES, lambda line: None)
    say("registering the model in MLflow")
    try:
        View(store, settings, stored_spec(record.spec), running=False).open()
        return register(store.study(record.name), settings, folder, alias)
    except StorageError as error:
        raise StorageError(
            f"{place} is exported, but not registered: {error}; the same command with --force tries again"
        ) from error


def _export(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    point: PointRecord,
    found: StudyFront,
    folder: Path,
    say: Callable[[str], None],
    *,
    expected: Expected | None,
    limits: Mapping[str, float],
    force: bool,
    extras: Extras,
) -> Exported:
    from search.export.curve import setting_of, validation_of
    from search.export.export import export
    from search.export.static_net import Beside, baseline_beside

    spec, checkpoints = stored_spec(record.spec), str(settings.checkpoints)
    check_same_data(store, record.name, data_spec(spec))
    beside = None
    if baseline := baseline_beside(point, found.baselines, study_cost(record)):
        static, why = baseline
        training = store.trial(record.name, static.kind, static.trial)
        job = job_of(spec, training, checkpoints, store=settings.store)
        beside = Beside(job, why, static.extra.get(LATENCY.column))
    validation = validation_of(point) | {LIMITS: dict(limits)}
    if expected is not None:
        validation["expected"] = expected.accuracy
    if is_cascade(point.knobs):
        _check_one_point(point, extras)
        return exported_cascade(
            store,
            spec,
            settings,
            point,
            validation=validation,
            beside=beside,
            extras=extras,
            folder=folder,
            force=force,
            say=say,
        )
    trial = store.trial(record.name, point.kind, point.trial)
    return export(
        job_of(spec, trial, checkpoints, store=settings.store),
        study=record.name,
        point=replace(setting_of(point), validation=validation),
        others=_other_settings(store, record, point, found),
        folder=folder,
        beside=beside,
        force=force,
        extras=extras,
        say=say,
    )


def _other_settings(
    store: Store, record: StudyRecord, point: PointRecord, found: StudyFront
) -> list[Setting]:
    """The training's other points that its file can carry, read again with the open rates of their gates."""
    from search.export.curve import setting_of, siblings

    others = siblings(point, found.points, study_costs(record))
    ids = [one.id for one in others if one.id is not None]
    return [setting_of(one) for one in store.points_by_id(record.name, ids)]


def _check_one_point(point: PointRecord, extras: Extras) -> None:
    if extras.whole_curve:
        raise ValueError(
            f"--whole-curve: point {point.id} is a cascade, whose file answers at one point; leave it out"
        )


def _expect(expected: Expected | None) -> str:
    return "" if expected is None else f" ({expected.accuracy:.1%} to be expected of other images)"
