"""Methods of the store that are one transaction, done again where the database's server went away in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from storage.database import Database

Given = ParamSpec("Given")
Result = TypeVar("Result")


def repeated(
    method: Callable[Concatenate[Any, Given], Result],
) -> Callable[Concatenate[Any, Given], Result]:
    """The method, done again as `Database.repeated` says. What it writes must be the same if it is written twice."""

    @wraps(method)
    def again(self: Any, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        database: Database = self._database
        return database.repeated(lambda: method(self, *args, **kwargs))

    return again
