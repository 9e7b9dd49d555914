"""Opening a study: check the file against what is stored, take the lease, put driver, engine and publisher together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console

from search.commands.data_check import check_device, checked_data, class_sizes
from search.commands.search_text import Finished
from search.front.stored import study_front
from search.objectives import COSTS, Reference
from search.report.no_front import no_front_text
from search.run.books import Books
from search.run.data import data_spec, load_data, task_of
from search.run.driver import Driver
from search.run.engine import engine_for
from search.run.heartbeat import Steps
from search.run.lease import lease
from search.run.lost_baselines import LostBaselines, lost_in
from search.run.number_formats import NumberFormats
from search.run.optuna_mirror import mirror_for, optuna_storage
from search.run.progress import Progress
from search.run.publish import Publisher
from search.run.retry import retry
from search.run.take_up import take_up
from search.run.time_spent import TimeSpent
from search.schedule.limits import limit_of
from search.schedule.scheduler_for import scheduler_for
from search.schedule.sizes import baseline_shapes, shape_of, sizes
from search.schedule.warm_start import all_baselines, recommended
from search.spec import BEFORE, Region, StudySpec, budget_begun, narrowed_spaces
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from storage.creation_lock import creating
from storage.records import StudyRecord
from storage.settings import Settings
from storage.store import Store
from storage.urls import sqlite_file
from trainers.initial_weights import start_from

FREE_TO_CHANGE = (
    "budget",
    "run",
    "data_root",
    "region",
    "limits",
    "early_stopping",
    "skip_broken",  # images that it leaves out would be others than the study began with, which is refused
)  # of a study that exists
NO_REGION = Region().model_dump(mode="json")


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
) -> Finished:
    """Run the study until its budget is spent; the same call goes on with one that was interrupted.

    With `retry_failed`, trials that failed in earlier sessions are trained again, from their seeds.

    Raises ValueError for what a person can put right, NoFrontError when nothing came of it. KeyboardInterrupt passes
    through with everything stored.
    """
    with Steps(console) as step:
        check_device(spec.run.device)
        known, before = _stored(settings, spec.study)
        spec = as_begun(spec, known)
        step("reading the images")
        data = checked_data(spec, before, step.say, settings.folder)
        images = load_data(data_spec(spec))
        task = task_of(images)
        spaces = narrowed_spaces(spec)
        if baselines and spec.init_from:
            raise ValueError(
                "--baselines: baselines of other sizes have no weights to start from; leave out init_from or the flag"
            )
        step("building the networks once, to know that they fit the images")
        check_candidates(spec, spaces, task)
        settings.folder.mkdir(parents=True, exist_ok=True)
        store = Store.open(settings.database_url)
        reference = reference_of(spaces, task, spec.metric.guessing(class_sizes(images)))
        spec, values, reference = _recorded(store, spec, text, reference)
    with lease(store, spec.study) as held:
        store.set_spec(spec.study, values, text)
        store.set_data(spec.study, data)
        with creating(settings.optuna_url):
            storage = optuna_storage(settings.optuna_url)
        scheduler = scheduler_for(spec, task, reference, data["majority"])
        mirror = mirror_for(storage, store, spec)
        books = Books(store, spec.study, spec.costs, mirror, spec.metric.name)
        engine = engine_for(workers)
        with Progress(console, spec.study, spec.budget.trials, max(1, workers)) as progress:
            store.say_on(progress.say)
            publisher = Publisher(store, settings, spec, progress.say)
            checkpoints = str(settings.checkpoints)
            formats = NumberFormats(
                store.formats, spec.study, lambda: task, progress.say, doing=progress.doing
            )
            driver = Driver(
                spec=spec,
                plan=scheduler,
                books=books,
                time=TimeSpent(store, spec.study, spec.budget.hours),
                engine=engine,
                progress=progress,
                checkpoints=checkpoints,
                follower=publisher,
                ours=lambda: not held.lost,
                formatted=formats.of,
                baselines=LostBaselines(lost_in(store, spec, checkpoints)),
            )
            publisher.start()
            try:
                if retry_failed:
                    count = retry(store, spec, limit_of(spec, task))
                    progress.say(f"{count} failed trials are trained again")
                take_up(scheduler, books)
                scheduler.add_baselines(
                    all_baselines(spaces, spec.budget.epochs) if baselines else ()
                )
                complete = driver.run()
            finally:
                formats.close()
                progress.doing("bringing MLflow up to date")
                publisher.close()
    if not study_front(store, store.study(spec.study)).members:
        raise NoFrontError(_why_none(store, spec, complete))
    return Finished(complete, scheduler.front.plateau, scheduler.asked, len(scheduler.front.points))


def _why_none(store: Store, spec: StudySpec, complete: bool) -> str:
    why = no_front_text(store, store.study(spec.study))
    if complete:
        return why
    return f"{why}. The budget of {spec.budget.hours} hours is spent: raise budget.hours to go on"


def _stored(settings: Settings, name: str) -> tuple[StudyRecord | None, dict[str, Any]]:
    """The study and what its images were, as they are stored; nothing is made to find out."""
    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        return None, {}
    store = Store.open(settings.database_url)
    try:
        return store.find_study(name), store.data(name)
    finally:
        store.close()


def check_candidates(spec: StudySpec, spaces: Any, task: Task) -> None:
    """Build one network of each family: a mistake that would fail all trials is found before anything is stored."""
    for name, space in spaces.items():
        own = family(name)
        values = recommended(space)
        try:
            candidate = Candidate.of(own, values, spec.budget.epochs)
            if not (source := spec.initial(name)):
                shape_of(candidate, task)
                continue
            for size in sizes(own, space):
                one = Candidate.of(own, values | size, spec.budget.epochs)
                with torch.device("meta"):
                    baseline = own.build(one.baseline().config, task)
                start_from(one.build(task, spec.seed), source, baseline.state_dict())
        except ValueError as error:
            key = "" if str(error).startswith("init_from") else f"space.{name}."
            raise ValueError(f"{key}{error}") from None


def reference_of(spaces: Any, task: Task, chance: float) -> Reference:
    """`chance`, and a tenth more of each cost than the largest baselines of the narrowed spaces have.

    `chance` is what guessing has by the study's metric. The tenth lets the largest networks, whose gates come on top,
    still count for something.
    """
    shapes = [
        shape
        for name, space in spaces.items()
        for shape in baseline_shapes(family(name), space, task)
    ]
    largest = {cost.measure: 1.1 * max(map(cost.of_baseline, shapes)) for cost in COSTS.values()}
    return Reference(accuracy=chance, **largest)


def as_begun(spec: StudySpec, known: StudyRecord | None) -> StudySpec:
    """The spec to search under: a study from before some keys existed goes on as it was begun.

    Raises ValueError when the file asks for something else by the name of a stored study.
    """
    if known is None:
        return spec
    old = {key: value for key, value in BEFORE.items() if key not in known.spec}
    if "warm_start" in old:
        old["sampler"] = known.spec["sampler"]
    spec = spec.model_copy(update=old)
    if "region" not in spec.model_fields_set and known.spec.get("region") == NO_REGION:
        spec = spec.model_copy(update={"region": Region()})  # from before there was a default
    begun = budget_begun(known.spec["budget"], spec.warm_start)
    if "warm_epochs" not in known.spec["budget"] and spec.budget.warm_epochs is None:
        budget = spec.budget.model_copy(update={"warm_epochs": begun.get("warm_epochs")})
        spec = spec.model_copy(update={"budget": budget})
    for key, value in spec.model_dump(mode="json").items():
        before = known.spec.get(key, BEFORE.get(key, StudySpec.model_fields[key].default))
        if key == "budget":
            key, before, value = _changed_epochs(begun, value)
        elif key in FREE_TO_CHANGE:
            continue
        if before != value:
            raise ValueError(
                f"study {spec.study} exists with another {key}; its trials could not be compared. Give the file "
                f"another `study:` name, or restore {key} (the rest of budget, run, region, limits and early_stopping "
                "may change)"
            )
    return spec


def _changed_epochs(
    begun: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[str, int | None, int | None]:
    """(key, what it was, what it is) of the lengths of trainings: of the first that changed, else of the last."""
    for key in ("epochs", "warm_epochs"):
        before, value = (one.get(key) or one["epochs"] for one in (begun, now))
        if before != value:
            break
    return f"budget.{key}", before, value


def _recorded(
    store: Store, spec: StudySpec, text: str, reference: Reference
) -> tuple[StudySpec, dict[str, Any], Reference]:
    """(the spec to search under, what is stored of it, the reference that the study began with), its study stored.

    Keys that a study was begun without stay out of what is stored of it.
    """
    found = store.find_study(spec.study)
    spec = as_begun(spec, found)
    values = spec.model_dump(mode="json")
    if found is None:
        store.add_study(spec.study, values, text, reference.as_dict())
        return spec, values, reference
    if "warm_epochs" not in found.spec["budget"]:
        values["budget"].pop("warm_epochs")
    kept = {k: value for k, value in values.items() if k in found.spec or k not in BEFORE}
    return spec, kept, Reference(**found.reference)
