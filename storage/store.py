"""The store of studies: what every command reads and the driver of a study writes.

One Store serves any number of threads. Each method is one transaction; what fails leaves as a StorageError.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.attempts import Attempts
from storage.database import Database
from storage.exports import Exports
from storage.formats import Formats
from storage.jobs import Jobs
from storage.measurements import Measurements
from storage.studies import Studies
from storage.suggestions import Suggestions
from storage.trials import Trials


class Store(Studies, Trials, Measurements, Exports):
    """Studies, trials, epochs, rungs, operating points, failures, exports and leases in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.attempts = Attempts(database)
        self.formats = Formats(database)
        self.jobs = Jobs(database)
        self.suggestions = Suggestions(database)

    @classmethod
    def open(cls, url: str, say: Callable[[str], None] | None = None) -> Store:
        """The store at a database URL, its tables brought up to date; `say` gets what it waits for.

        Raises ValueError and StorageError.
        """
        return cls(Database.open(url, say))

    def say_on(self, say: Callable[[str], None]) -> None:
        """Say from now on with `say` what is waited for, and wait longer for a server that went away."""
        self._database.say, self._database.patient = say, True

    def close(self) -> None:
        self._database.close()
