"""Starts of trainings that have not ended: what is left of them tells that their process died."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from storage.database import Database
from storage.records import Kind
from storage.repeated import repeated
from storage.tables import ATTEMPTS, EPOCHS
from storage.trials import trial_id

LAST = select(func.max(EPOCHS.c.epoch)).where(EPOCHS.c.trial_id == bindparam("own"))


class Attempts:
    """By training, the starts that neither ended nor were withdrawn."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    def begin(self, study: str, kind: Kind, number: int) -> int:
        """The training is about to start; this stays if its process dies. Returns its last epoch that is stored."""
        with self._database.writing() as connection:
            trial = trial_id(connection, study, kind, number)
            epoch = _last_epoch(connection, trial)
            connection.execute(insert(ATTEMPTS), {"trial_id": trial, "epoch": epoch})
        return epoch

    @repeated
    def lost(self, study: str, kind: Kind, number: int) -> int:
        """Starts whose process died, or is still there, since the last epoch that was stored."""
        with self._database.reading() as connection:
            trial = trial_id(connection, study, kind, number)
            epoch = _last_epoch(connection, trial)
            count = select(func.count()).where(
                ATTEMPTS.c.trial_id == trial, ATTEMPTS.c.epoch == epoch
            )
            return int(connection.scalar(count) or 0)

    @repeated
    def withdraw(self, study: str, kind: Kind, number: int) -> None:
        """The latest start was interrupted on purpose: it does not count."""
        with self._database.writing() as connection:
            trial = trial_id(connection, study, kind, number)
            latest = select(func.max(ATTEMPTS.c.id)).where(ATTEMPTS.c.trial_id == trial)
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.id == connection.scalar(latest)))

    @repeated
    def clear(self, study: str, kind: Kind, number: int) -> None:
        """The training is over, or is given new attempts."""
        with self._database.writing() as connection:
            trial = trial_id(connection, study, kind, number)
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.trial_id == trial))


def _last_epoch(connection: Connection, trial: int) -> int:
    return connection.scalar(LAST, {"own": trial}) or 0
