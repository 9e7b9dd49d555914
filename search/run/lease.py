"""The right to drive a study: one process at a time has it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from search.run.owner import HELD, Owner
from search.run.stop_signal import stop_this_process, stoppable
from storage.errors import StorageError
from storage.fence import ASKED_TO_STOP, Fence
from storage.records import StudyRecord
from storage.store import Store

logger = logging.getLogger(f"dynafront.{__name__}")

LEASE_SECONDS = 60.0
LONG_AGO = 86_400.0  # seconds; no two clocks differ by so much


class Lease:
    """The right to drive a study, renewed by a thread; `lost` once somebody else has taken it.

    Where somebody asks in the tables for the study to stop, the thread interrupts this process as Ctrl-C does.
    """

    def __init__(self, store: Store, name: str, owner: str) -> None:
        self.lost = False
        self._store, self._name, self._owner = store, name, owner
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._store.release_lease(self._name, self._owner)

    def _renew(self) -> None:
        asked = False
        while not self._stop.wait(LEASE_SECONDS / 4):
            try:
                self.lost = not self._store.renew_lease(self._name, self._owner, LEASE_SECONDS)
                if not asked and self._store.is_asked_to_stop(self._name, self._owner):
                    asked = True
                    logger.info("%s is to stop: somebody asked for it from elsewhere", self._name)
                    stop_this_process()
            except StorageError as error:  # there are three more tries before the lease ends
                logger.warning("the lease on %s was not renewed: %s", self._name, error)


@contextmanager
def lease(
    store: Store,
    name: str,
    say: Callable[[str], None] = lambda line: None,
    *,
    fenced: bool = False,
) -> Iterator[Lease]:
    """Be the only driver of the study; a driver on this machine that died is replaced at once.

    Leases count by the clock of the database's server. Where there is none, one that is over by this machine's clock,
    but whose owner may be alive, is taken only after a while without a renewal: a clock may jump. So is one that lasts
    longer than any can. `say` gets a line then. While it is held, SIGTERM raises KeyboardInterrupt. Raises ValueError.

    `fenced`: the store writes only as long as the lease is held, and raises TakenOverError afterwards.
    """
    me = Owner.here()
    record = store.study(name)
    if record.owner is not None and _is_gone(store, record, say):
        logger.info("the process that searched %s is gone: %s", name, record.owner)
        store.release_lease(name, record.owner.removesuffix(ASKED_TO_STOP))
    if not store.take_lease(name, str(me), LEASE_SECONDS, expired=False):
        other = Owner.read(store.study(name).owner or "")
        raise ValueError(
            f"study {name} is being searched by process {other.pid} on {other.host}; "
            f"watch it with `dynafront status {name}`"
        )
    HELD.add(me.key)
    store.fence = Fence(name, str(me)) if fenced else None
    with stoppable():
        held = Lease(store, name, str(me))
        try:
            yield held
        finally:
            held.release()
            store.fence = None
            HELD.discard(me.key)


def _is_gone(store: Store, record: StudyRecord, say: Callable[[str], None]) -> bool:
    """Whether the study's owner renews its lease no more."""
    owner, left = Owner.read(record.owner or ""), record.lease_left or 0.0
    if owner.is_dead or left < -LONG_AGO or (left < 0 and store.has_clock):
        return True
    # one that ends later than any that was just renewed is of another clock
    if 0 <= left <= LEASE_SECONDS:
        if owner.is_here or not owner.shares_name:
            return False
        # it lives in another container, or this is that container, started again
        say(
            f"a process on a machine that is named {owner.host} too may search {record.name}; "
            f"waiting up to {left:.0f} s for a sign of life"
        )
        return _shows_no_life(store, record, left)
    say(
        f"process {owner.pid} on {owner.host} has not renewed its right to search {record.name}, "
        f"by this machine's clock; waiting {LEASE_SECONDS / 2:.0f} s for a sign of life"
    )
    return _shows_no_life(store, record, LEASE_SECONDS / 2)


def _shows_no_life(store: Store, record: StudyRecord, seconds: float) -> bool:
    """Whether its lease is not renewed in this time, or is free already."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(LEASE_SECONDS / 60)
        found = store.study(record.name)
        if (found.owner, found.lease_until) != (record.owner, record.lease_until):
            return found.owner is None
    return True


def is_driven(record: StudyRecord) -> bool:
    """Whether a process searches the study: its lease lasts by the clock that gave it; not one known to be gone."""
    if record.owner is None or Owner.read(record.owner).is_dead:
        return False
    return (record.lease_left or 0) > 0
