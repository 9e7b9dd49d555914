"""Opening a study: check the file against what is stored, take the lease, put driver, engine and publisher together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from typing import Any, NamedTuple

from rich.console import Console

from search.commands.begun import as_begun
from search.commands.gpu_check import check_gpus
from search.commands.search_text import Finished
from search.commands.study_check import checked_study
from search.front.stored import study_front
from search.objectives import Reference
from search.report.no_front import no_front_text
from search.run.books import Books
from search.run.driver import Driver
from search.run.engine import StudyEngine, engine_for, probe_for
from search.run.features import feature_store, with_places
from search.run.giving_up import check_goes_on
from search.run.gpu_needs import measuring_for
from search.run.heartbeat import Steps
from search.run.lease import Lease, lease
from search.run.lost_baselines import LostBaselines, lost_in
from search.run.memory_tries import MemoryTries
from search.run.mirror_process import mirror_beside
from search.run.missing_files import put_missing
from search.run.number_formats import NumberFormats
from search.run.progress import Progress
from search.run.publish import Publisher
from search.run.publisher_process import PublisherProcess, publisher_for
from search.run.ranking_process import ranking_beside
from search.run.retry import retry
from search.run.take_up import take_up
from search.run.time_spent import TimeSpent
from search.schedule.limits import limit_of
from search.schedule.scheduler import Scheduler
from search.schedule.scheduler_for import scheduler_for
from search.schedule.static_nets import static_nets
from search.schedule.timed_shapes import table_of
from search.schedule.warm_start import all_baselines
from search.spec import BEFORE
from search.study_keys import StudySpec
from spaces.contract.family import Candidate
from spaces.contract.task import Task
from storage.errors import StorageError, StudyExistsError, TakenOverError
from storage.kept_files import checkpoint_store
from storage.settings import Settings
from storage.store import Store

logger = logging.getLogger(f"dynafront.{__name__}")


class NoFrontError(RuntimeError):
    """The search is over and there is nothing to choose from; the message says why."""


def run_study(
    spec: StudySpec,
    text: str,
    settings: Settings,
    console: Console,
    *,
    workers: int,
    baselines: bool,
    retry_failed: bool = False,
    beside: Sequence[Candidate] = (),
) -> Finished:
    """Run the study until its budget is spent; the same call goes on with one that was interrupted.

    With `retry_failed`, trials that failed in earlier sessions are trained again, from their seeds. `beside` are
    baselines to train too.

    Raises ValueError for what a person can put right, NoFrontError when nothing came of it. KeyboardInterrupt passes
    through with everything stored.
    """
    check_gpus(spec, workers)
    with closing(engine_for(workers, spec.run, spec.budget.trials)) as engine:
        return _searched(
            engine,
            spec,
            text,
            settings,
            console,
            baselines=baselines,
            retry_failed=retry_failed,
            beside=beside,
        )


def _searched(
    engine: StudyEngine,
    spec: StudySpec,
    text: str,
    settings: Settings,
    console: Console,
    *,
    baselines: bool,
    retry_failed: bool,
    beside: Sequence[Candidate],
) -> Finished:
    with Steps(console) as step:
        checked = checked_study(spec, settings, step, baselines=baselines)
        settings.folder.mkdir(parents=True, exist_ok=True)
        store = Store.open(settings.database_url)
        spec, values, reference = _recorded(store, checked.spec, text, checked.reference)
        engine.open(step)
    with lease(store, spec.study, console.print, fenced=True) as held:
        store.set_spec(spec.study, values, text)
        store.set_data(spec.study, checked.data)
        majority = checked.data["majority"]
        ranks = ranking_beside(spec, checked.task, reference, engine.slots, console.print)
        scheduler = scheduler_for(spec, checked.task, reference, majority, engine.slots, ranks)
        with (
            closing(scheduler),
            Progress(console, spec.study, spec.budget.trials, engine.slots) as progress,
        ):
            store.say_on(progress.say)
            engine.say_on(progress.say)
            if retry_failed:
                count = retry(store, spec, limit_of(spec, checked.task))
                progress.say(f"{count} failed trials are trained again")
            more = [*static_nets(spec, checked.spaces, checked.task), *beside]
            more += all_baselines(checked.spaces, spec.budget.epochs) if baselines else []
            parts = _Parts(spec, settings, store, checked.task, engine, held)
            complete, followed = _driven(parts, scheduler, more, progress)
            if followed:
                _draw_front(parts, progress)
    if not study_front(store, store.study(spec.study)).members:
        raise NoFrontError(_why_none(store, spec, complete))
    return Finished(complete, scheduler.front.plateau, scheduler.asked, len(scheduler.front.points))


class _Parts(NamedTuple):
    """What a session with a study is made of."""

    spec: StudySpec
    settings: Settings
    store: Store
    task: Task
    engine: StudyEngine
    held: Lease


def _driven(
    parts: _Parts, scheduler: Scheduler, more: Iterable[Candidate], progress: Progress
) -> tuple[bool, bool]:
    """Take up what an earlier session left, add baselines, and run to the end.

    Returns what `Driver.run` does, and whether MLflow followed.
    """
    spec, store, checkpoints = parts.spec, parts.store, str(parts.settings.checkpoints)
    files = checkpoint_store(parts.settings.checkpoints, parts.settings.store)
    mirror = mirror_beside(parts.engine.slots, store, parts.settings, spec, progress.say)
    books = Books(store, spec.study, spec.costs, mirror, spec.metric.name)
    publisher = publisher_for(parts.engine, store, parts.settings, spec, progress.say)
    formats = NumberFormats(
        store.formats,
        spec.study,
        lambda: parts.task,
        progress.say,
        probe_for(
            parts.engine,
            spec.run,
            lambda: check_goes_on(ours=driver.ours(), in_time=driver.time.left),
        ),
        progress.doing,
    )
    measuring = measuring_for(parts.engine, formats)
    driver = Driver(
        spec=spec,
        plan=scheduler,
        books=books,
        time=TimeSpent(store, spec.study, spec.budget.hours),
        engine=parts.engine,
        progress=progress,
        checkpoints=checkpoints,
        follower=publisher,
        ours=lambda: not parts.held.lost,
        has_room=lambda: parts.engine.has_room,
        formatted=lambda job: with_places(measuring(job), parts.settings),
        baselines=LostBaselines(lost_in(store, spec, checkpoints, files)),
        memory=MemoryTries(parts.engine.shared, parts.engine.shares_machine),
    )
    progress.budget_left = driver.time.seconds_left
    publisher.start()
    try:
        take_up(scheduler, books)
        scheduler.add_baselines(more)
        complete = driver.run()
        _add_cascades(parts, publisher, progress)
    finally:
        formats.close()
        if not store.is_taken_over:
            put_missing(files, spec.study, progress.say)
            progress.doing("bringing MLflow up to date")
        publisher.close()
    return complete, not publisher.away


def _add_cascades(
    parts: _Parts, publisher: Publisher | PublisherProcess, progress: Progress
) -> None:
    """Join the networks that were trained; a study whose cascades fail has its front without them."""
    from search.run.cascade_passes import Passes
    from search.run.cascades import update_cascades

    spec, store, settings = parts.spec, parts.store, parts.settings
    kept = checkpoint_store(settings.checkpoints, settings.store)
    features, place = feature_store(settings), str(settings.checkpoints)
    try:
        passes = Passes(spec, place, features, settings.store, table=table_of(spec))
        if update_cascades(store, spec, kept, passes, progress.doing):
            publisher.front_changed()
    except TakenOverError:
        raise
    # the search went well: what cannot be joined must not end it
    except Exception as error:
        logger.warning("no cascades", exc_info=error)
        progress.say(f"cascades were not searched: {error}")


def _draw_front(parts: _Parts, progress: Progress) -> None:
    """Let MLflow's pictures of trainings on the front show their points there; `dynafront sync` makes up for it."""
    from search.commands.front_pictures import show_front_pictures

    spec, store = parts.spec, parts.store
    try:
        show_front_pictures(store, parts.settings, store.study(spec.study), progress.doing)
    except StorageError as error:
        logger.info("no pictures of the front in MLflow: %s", error)


def _why_none(store: Store, spec: StudySpec, complete: bool) -> str:
    why = no_front_text(store, store.study(spec.study))
    if complete:
        return why
    return f"{why}. The budget of {spec.budget.hours} hours is spent: raise budget.hours to go on"


def _recorded(
    store: Store, spec: StudySpec, text: str, reference: Reference
) -> tuple[StudySpec, dict[str, Any], Reference]:
    """(the spec to search under, what is stored of it, the reference that the study began with), its study stored.

    Keys that a study was begun without stay out of what is stored of it.
    """
    found = store.find_study(spec.study)
    if found is None:
        values = spec.model_dump(mode="json")
        with suppress(StudyExistsError):  # a search that was started at the same moment was first
            store.add_study(spec.study, values, text, reference.as_dict())
            return spec, values, reference
        found = store.study(spec.study)
    spec = as_begun(spec, found)
    values = spec.model_dump(mode="json")
    if "warm_epochs" not in found.spec["budget"]:
        values["budget"].pop("warm_epochs")
    kept = {k: value for k, value in values.items() if k in found.spec or k not in BEFORE}
    return spec, kept, Reference(**found.reference)
