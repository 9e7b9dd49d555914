"""Starts of trainings that have not ended: what is left of them tells what became of their processes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from storage.database import Database
from storage.named_trials import NAMED, no_such_trial, trial_id
from storage.records import Kind
from storage.repeated import repeated
from storage.tables import ATTEMPTS, EPOCHS, TRIALS

LATEST = select(func.max(EPOCHS.c.epoch))
LAST = LATEST.where(EPOCHS.c.trial_id == bindparam("own"))
REACHED = LATEST.where(EPOCHS.c.trial_id == TRIALS.c.id)
# with the trial's last epoch that is stored, in one statement: a driver runs it for every trial
BEGUN = (
    insert(ATTEMPTS)
    .from_select(
        ["trial_id", "epoch"],
        select(TRIALS.c.id, func.coalesce(REACHED.scalar_subquery(), 0)).where(*NAMED),
    )
    .returning(ATTEMPTS.c.epoch)
)


@dataclass(frozen=True)
class Ends:
    """How often a training was ended since the last epoch that it finished.

    `died`: its own process ended while its driver lived. `lost`: it went down with its driver or its machine.
    """

    died: int = 0
    lost: int = 0


class Attempts:
    """By training, the starts that neither ended nor were withdrawn."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    def begin(self, study: str, kind: Kind, number: int) -> int:
        """The training is about to start; this stays if its process dies. Returns its last epoch that is stored."""
        with self._database.writing() as connection:
            return begun(connection, study, kind, number)

    @repeated
    def died(self, study: str, kind: Kind, number: int) -> None:
        """The process of the latest start ended by itself, or had to be ended."""
        with self._database.writing() as connection:
            latest = _latest(connection, trial_id(connection, study, kind, number))
            connection.execute(update(ATTEMPTS).where(ATTEMPTS.c.id == latest).values(died=True))

    @repeated
    def ends(self, study: str, kind: Kind, number: int) -> Ends:
        """What became of the starts since the last epoch that was stored; one that goes on counts as lost."""
        with self._database.reading() as connection:
            trial = trial_id(connection, study, kind, number)
            epoch = _last_epoch(connection, trial)
            starts = select(ATTEMPTS.c.died).where(
                ATTEMPTS.c.trial_id == trial, ATTEMPTS.c.epoch == epoch
            )
            found = connection.scalars(starts).all()
        return Ends(died=found.count(True), lost=found.count(False))

    @repeated
    def withdraw(self, study: str, kind: Kind, number: int) -> None:
        """The latest start was interrupted on purpose: it does not count."""
        with self._database.writing() as connection:
            latest = _latest(connection, trial_id(connection, study, kind, number))
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.id == latest))

    @repeated
    def clear(self, study: str, kind: Kind, number: int) -> None:
        """The training is over, or is given new attempts."""
        with self._database.writing() as connection:
            trial = trial_id(connection, study, kind, number)
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.trial_id == trial))


def begun(connection: Connection, study: str, kind: Kind, number: int) -> int:
    """The training starts; returns its last epoch that is stored."""
    epoch = connection.scalar(BEGUN, {"study": study, "kind": kind, "number": number})
    if epoch is None:
        raise no_such_trial(study, kind, number)
    return int(epoch)


def _latest(connection: Connection, trial: int) -> int | None:
    return connection.scalar(select(func.max(ATTEMPTS.c.id)).where(ATTEMPTS.c.trial_id == trial))


def _last_epoch(connection: Connection, trial: int) -> int:
    return connection.scalar(LAST, {"own": trial}) or 0
