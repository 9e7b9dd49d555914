"""A study's finalists: trained again, and where the study minimises latency, timed as whole networks."""

from __future__ import annotations

from functools import partial
from typing import Any

from rich.console import Console

from search.export.timed_points import time_finalists
from search.front.finalists import report
from search.run.finalists import search_finalists
from search.run.view import View
from search.study_keys import StudySpec
from storage.errors import StorageError
from storage.settings import Settings
from storage.store import Store


def train_finalists(
    spec: StudySpec, settings: Settings, console: Console, *, count: int, workers: int
) -> dict[str, Any]:
    """Train the study's finalists, or those that are still missing, time them, and report. The study must be there."""
    found = search_finalists(spec, settings, console, count=count, workers=workers)
    trials = sorted({row["trial"] for row in found["points"]})
    store = Store.open(settings.database_url)
    record = store.study(spec.study)
    say = partial(console.print, highlight=False, soft_wrap=True)
    if not time_finalists(store, record, settings, trials, say, partial(say, style="dim")):
        return found
    view = View(store, settings, spec, running=False)
    try:
        view.show_front()
        view.close()
    except StorageError as error:
        say(f"measured latencies are not in MLflow: {error}; dynafront sync {spec.study} adds them")
    return report(store, record)
