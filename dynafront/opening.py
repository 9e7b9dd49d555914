"""What every call opens: the settings, the tables of a study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from search.front.stored import StudyFront
    from search.objectives import Cost
    from storage.records import StudyRecord
    from storage.settings import Settings
    from storage.store import Store


@dataclass(frozen=True)
class StudyTables:
    """The store, and a study in it."""

    store: Store
    record: StudyRecord

    @property
    def cost(self) -> Cost:
        """What pictures show accuracy against, and points are picked by."""
        from search.front.stored import study_cost

        return study_cost(self.record)

    def front(self, family: str | None = None) -> StudyFront:
        from search.front.stored import study_front

        return study_front(self.store, self.record, family)


def settings_of(given: Settings | Path | str | None) -> Settings:
    """The settings of a file, or of ./mlflow.yml where there is one, as the command line reads them."""
    from search.command_line.opening import read_settings, send_nothing
    from storage.settings import Settings

    send_nothing()
    if isinstance(given, Settings):
        return given
    return read_settings(None if given is None else Path(given).expanduser())


@contextmanager
def opened(settings: Settings, name: str) -> Iterator[StudyTables]:
    """The tables of a study, closed afterwards. Raises ValueError naming the nearest where there is no such study."""
    from search.command_line.opening import open_study

    store, record = open_study(settings, name)
    try:
        yield StudyTables(store, record)
    finally:
        store.close()


def console_for(show: bool) -> Console:
    """Where progress is printed; with `show` false, nowhere."""
    from rich.console import Console

    from search.command_line.terminal import terminal
    from search.run.notebook import NotebookConsole, in_notebook

    if not show:
        return Console(quiet=True, force_terminal=False, force_jupyter=False)
    return NotebookConsole() if in_notebook() else terminal()
