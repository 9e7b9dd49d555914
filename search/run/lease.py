"""The right to drive a study: one process at a time has it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import StorageError
from storage.store import Store

logger = logging.getLogger(f"dynafront.{__name__}")

LEASE_SECONDS = 60.0


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
                    os.kill(os.getpid(), signal.SIGINT)
            except StorageError as error:  # there are three more tries before the lease ends
                logger.warning("the lease on %s was not renewed: %s", self._name, error)


@contextmanager
def lease(store: Store, name: str) -> Iterator[Lease]:
    """Be the only driver of the study; a driver on this machine that died is replaced at once."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    if not store.take_lease(name, owner, LEASE_SECONDS):
        holder = store.study(name).owner or ""
        if not dead_here(holder):
            host, pid = [*holder.split(":"), "?", "?"][:2]
            raise ValueError(
                f"study {name} is being searched by process {pid} on {host}; watch it with `dynafront status {name}`"
            )
        logger.info("the process that searched %s is dead: %s", name, holder)
        store.release_lease(name, holder)
        if not store.take_lease(name, owner, LEASE_SECONDS):
            raise ValueError(
                f"study {name} was just taken up by another process; see `dynafront status {name}`"
            )
    held = Lease(store, name, owner)
    try:
        yield held
    finally:
        held.release()


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
