"""The right to drive a study: one process at a time has it."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    record = store.study(name)
    if record.owner is not None and _is_gone(store, record, say):
        logger.info("the process that searched %s is gone: %s", name, record.owner)
        store.release_lease(name, record.owner.removesuffix(ASKED_TO_STOP))
    if not store.take_lease(name, owner, LEASE_SECONDS, expired=False):
        host, pid = _place(store.study(name).owner or "")
        raise ValueError(
            f"study {name} is being searched by process {pid} on {host}; watch it with `dynafront status {name}`"
        )
    store.fence = Fence(name, owner) if fenced else None
    with stoppable():
        held = Lease(store, name, owner)
        try:
            yield held
        finally:
            held.release()
            store.fence = None


def _is_gone(store: Store, record: StudyRecord, say: Callable[[str], None]) -> bool:
    """Whether the study's owner renews its lease no more."""
    owner, left = record.owner or "", record.lease_left or 0.0
    if dead_here(owner) or left < -LONG_AGO or (left < 0 and store.has_clock):
        return True
    # one that ends later than any that was just renewed is of another clock
    if 0 <= left <= LEASE_SECONDS:
        return False
    host, pid = _place(owner)
    say(
        f"process {pid} on {host} has not renewed its right to search {record.name}, by this machine's clock; "
        f"waiting {LEASE_SECONDS / 2:.0f} s for a sign of life"
    )
    end = time.monotonic() + LEASE_SECONDS / 2
    while time.monotonic() < end:
        time.sleep(LEASE_SECONDS / 60)
        found = store.study(record.name)
        if (found.owner, found.lease_until) != (record.owner, record.lease_until):
            return found.owner is None
    return True


def _place(owner: str) -> tuple[str, str]:
    """(host, process id) of a lease's owner, for messages."""
    host, pid = [*owner.split(":"), "?", "?"][:2]
    return host, pid


def dead_here(owner: str) -> bool:
    """Whether a lease's owner was a process on this machine that is gone."""
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
