"""Training a study's finalists: the trials on its front again, from other seeds and for longer."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from rich.console import Console

from search.front.finalists import SEEDS, rank_trials, report
from search.run.books import Books
from search.run.data import data_spec, load_data, task_of
from search.run.driver import Driver
from search.run.engine import engine_for, probe_for
from search.run.features import with_places
from search.run.giving_up import check_goes_on
from search.run.gpu_needs import measuring_for
from search.run.lease import lease
from search.run.memory_tries import MemoryTries
from search.run.number_formats import NumberFormats
from search.run.progress import Progress
from search.run.time_spent import TimeSpent
from search.schedule.finalist_plan import FinalistPlan
from search.spec import StudySpec, stored_spec
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store


def search_finalists(
    spec: StudySpec, settings: Settings, console: Console, *, count: int, workers: int
) -> dict[str, Any]:
    """Train the study's finalists, or those that are still missing, and report. The study must be there."""
    store = Store.open(settings.database_url)
    trainings = SEEDS * count
    with (
        lease(store, spec.study, console.print, fenced=True) as held,
        closing(engine_for(workers, spec.run, trainings)) as engine,
    ):
        record = store.study(spec.study)
        trials = rank_trials(store, record)[:count]
        title = f"{spec.study}, finalists"
        engine.open(console.print)
        with Progress(console, title, SEEDS * len(trials), engine.slots) as progress:
            store.say_on(progress.say)
            engine.say_on(progress.say)
            stored = stored_spec(record.spec)
            formats = NumberFormats(
                store.formats,
                spec.study,
                lambda: task_of(load_data(data_spec(stored))),
                progress.say,
                probe_for(engine, spec.run, lambda: check_goes_on(ours=not held.lost)),
                progress.doing,
            )
            measuring = measuring_for(engine, formats)
            try:
                Driver(
                    spec=stored,
                    plan=FinalistPlan(store, spec.study, trials),
                    books=Books(store, spec.study, stored.costs),
                    time=TimeSpent(store, spec.study),
                    engine=engine,
                    progress=progress,
                    checkpoints=str(settings.checkpoints),
                    counts=Kind.FINALIST,
                    ours=lambda: not held.lost,
                    has_room=lambda: engine.has_room,
                    formatted=lambda job: with_places(measuring(job), settings),
                    memory=MemoryTries(engine.shared, engine.shares_machine),
                ).run()
            finally:
                formats.close()
    return report(store, record)
