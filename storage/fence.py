"""Who may write for a study: the driver that holds its lease, and nobody who held it before.

A driver that was suspended for longer than its lease finds out with its first write afterwards: each of its writing
transactions asks who holds the lease. On PostgreSQL the lease stays as it is until that transaction ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import SQLAlchemyError

from storage.errors import TakenOverError
from storage.tables import STUDIES

ASKED_TO_STOP = ":stop"  # behind the owner of a lease
TAKEN_OVER = "another process has taken this study over; dynafront status shows how it is"
# as the databases' drivers take it: SQLAlchemy would take several times as long, and it is in every transaction
HELD = f"SELECT 1 FROM {STUDIES.name} WHERE name = {{0}} AND owner IN ({{0}}, {{0}})"
IN_SQLITE = HELD.format("?")  # where one that writes keeps all others from it
IN_POSTGRES = HELD.format("%s") + " FOR SHARE"


@dataclass(frozen=True)
class Fence:
    """Lets pass while this owner holds the study's lease."""

    study: str
    owner: str

    def check(self, connection: Connection) -> None:
        """In a transaction that writes: nobody takes the lease before it ends. Raises TakenOverError."""
        held = IN_POSTGRES if connection.dialect.name == "postgresql" else IN_SQLITE
        values = self.study, self.owner, self.owner + ASKED_TO_STOP
        driver: Any = connection.connection.driver_connection
        try:
            found = driver.execute(held, values).fetchone()
        except connection.dialect.loaded_dbapi.Error as error:
            raise SQLAlchemyError(str(error)) from error  # as all others of a database are told
        if found is None:
            raise self.broken()

    def broken(self) -> TakenOverError:
        return TakenOverError(TAKEN_OVER)


def held_by(owner: str) -> ColumnElement[bool]:
    """Whether a study's lease is this owner's."""
    return STUDIES.c.owner.in_((owner, owner + ASKED_TO_STOP))
