"""Studies that are stored: looking at their fronts, picking a point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynafront.opening import console_for, opened, settings_of
from dynafront.point import Point

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from search.commands.choice import Choice
    from storage.records import PointRecord, StudyRecord
    from storage.settings import Settings
    from storage.store import Store


@dataclass(frozen=True)
class Study:
    """A study by name. Every method reads the tables anew, so that it also follows a search that still runs."""

    name: str
    settings: Settings

    def front(self, family: str | None = None) -> DataFrame:
        """The points that no other beats, the cheapest first: the rows of `dynafront front NAME --format csv`."""
        from pandas import DataFrame

        from search.front.formats import as_rows

        with opened(self.settings, self.name) as tables:
            columns, rows = as_rows(tables.front(family).members)
        return DataFrame(rows, columns=columns)

    def plot(self, family: str | None = None) -> Figure:
        """The front, the baselines and the other points as a plotly figure, which a notebook shows.

        Raises ImportError that says what to install where there is no plotly.
        """
        from dynafront.figure import front_figure
        from search.commands.front import what_is_shown

        with opened(self.settings, self.name) as tables:
            points, shown = what_is_shown(tables.store, tables.record, tables.front(family))
        return front_figure(self.name, points, **shown)

    def best(
        self,
        *,
        max_macs: float | str | None = None,
        max_latency_ms: float | None = None,
        min_accuracy: float | None = None,
        pick: str | None = None,
        family: str | None = None,
        timed: bool = False,
        show: bool = True,
    ) -> Point:
        """One point of the front, as `dynafront export` picks it.

        `pick` is "efficient", "equal", "best", "fastest" or "knee". Limits hold first; with one alone it is the most
        accurate point of at most `max_macs` (20e6 or "20M") or `max_latency_ms`, or the cheapest of at least
        `min_accuracy`.
        Without anything it is the efficient point. A limit on latency is kept by the table's predictions, corrected by
        what was timed so far. With `timed`, the point is timed first as the network that would be shipped, and another
        one is taken where it breaks the limit: what `dynafront export` does, in some seconds a point. `show` prints
        what was measured.
        Raises ValueError with the nearest offer where there is none.
        """
        from search.commands.choice import Choice, chosen, limit_text

        limit = None if max_macs is None else limit_text(max_macs)
        ms = None if max_latency_ms is None else str(max_latency_ms)
        choice = Choice(
            pick=pick,
            max_macs=limit,
            max_latency_ms=ms,
            min_accuracy=min_accuracy,
            family=family,
        )
        with opened(self.settings, self.name) as tables:
            store, record = tables.store, tables.record
            found = (
                self._timed(store, record, choice, show) if timed else chosen(store, record, choice)
            )
        return Point(found, choice, self)

    def _timed(self, store: Store, record: StudyRecord, choice: Choice, show: bool) -> PointRecord:
        """The chosen point, timed first; this loads PyTorch."""
        from search.command_line.terminal import steps
        from search.commands.timed_choice import chosen_by_time

        return chosen_by_time(store, record, self.settings, choice, steps(console_for(show)))

    def status(self) -> dict[str, Any]:
        """Trials by state, time spent and left, failures: what `dynafront status NAME --json` prints."""
        from search.commands.status import statuses

        with opened(self.settings, self.name) as tables:
            (found,) = statuses(tables.store, self.name, self.settings.folder)
        return found

    def __repr__(self) -> str:
        return f"Study({self.name!r}): {self._summary()}"

    def _summary(self) -> str:
        from search.report.front_text import summary

        with opened(self.settings, self.name) as tables:
            found = tables.front()
            text = summary(self.name, found.members, found.baselines, cost=tables.cost)
        return text.removeprefix(f"{self.name}: ")


def study(name: str, *, settings: Settings | Path | str | None = None) -> Study:
    """The stored study of this name. Raises ValueError naming the nearest where there is none."""
    own = settings_of(settings)
    with opened(own, name):
        return Study(name, own)


def studies(*, settings: Settings | Path | str | None = None) -> list[Study]:
    """All stored studies, in the order in which they were begun."""
    from search.command_line.opening import open_store

    own = settings_of(settings)
    store = open_store(own)
    try:
        return [Study(record.name, own) for record in store.studies()]
    finally:
        store.close()
