"""Accounts of a server with users, read and changed without it: MLflow's own code on MLflow's own tables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from storage.server_users import check_extra, check_password, private, users_file
from storage.settings import Settings


class Accounts:
    """The accounts in the data folder; the database is made where there is none.

    Each method raises ValueError with one line for what a person can put right. A server that runs knows of an account
    that went, or of another password, within a minute.
    """

    def __init__(self, settings: Settings) -> None:
        check_extra()
        settings.folder.mkdir(parents=True, exist_ok=True)
        database = private(users_file(settings).resolve(), b"")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's, about what it imports and its migrations
            from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

            self._store = SqlAlchemyStore()
            self._store.init_db(f"sqlite:///{database}")

    def names(self) -> dict[str, bool]:
        """Whether each is an admin, by name."""
        users = sorted(self._store.list_users(), key=lambda user: str(user.username))
        return {str(user.username): bool(user.is_admin) for user in users}

    def add(self, name: str, password: str, *, admin: bool) -> None:
        check_password(name, password)
        if name in self.names():
            raise ValueError(
                f"there is an account {name} already; `dynafront account password {name}` changes its password"
            )
        with _one_line():
            self._store.create_user(name, password, is_admin=admin)

    def set_password(self, name: str, password: str) -> None:
        self._check_known(name)
        check_password(name, password)
        with _one_line():
            self._store.update_user(name, password=password)

    def remove(self, name: str) -> None:
        self._check_known(name)
        admins = [one for one, is_admin in self.names().items() if is_admin]
        if admins == [name]:
            raise ValueError(f"{name} is the only admin: add another one before")
        with _one_line():
            self._store.delete_user(name)

    def _check_known(self, name: str) -> None:
        known = self.names()
        if name not in known:
            raise ValueError(f"there is no account {name}; there are: {', '.join(known) or 'none'}")


@contextmanager
def _one_line() -> Iterator[None]:
    """What MLflow complains of, as a ValueError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise ValueError(_first_line(error)) from None


def _first_line(error: Any) -> str:
    return str(error).partition("\n")[0]
