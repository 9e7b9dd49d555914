"""Optuna's tables written by a process of its own, where many trainings run: it would hold up the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from search.run.engine import Say
from search.run.mirror import Mirror
from search.run.optuna_mirror import OptunaMirror, mirror_for, optuna_storage
from search.run.worker_process import process_beside
from search.schedule.history import Params
from search.spec import StudySpec
from storage.creation_lock import creating
from storage.fence import Fence
from storage.settings import Settings
from storage.store import Store

MANY = 16  # trainings at once, from which on a process is worth the second that it takes to start
GATHER_SECONDS = 0.2  # many writes are one, for SQLite lets nobody else write meanwhile
CLOSE = "close"  # the last message; the answer is None, or the error of a write


class MirrorProcess:
    """As OptunaMirror, which it runs in another process. That one ends with this one, however this one ends.

    Where that process ends too early the search goes on, and says so: the next one makes up for what is missing.
    """

    unknown: Mapping[int, Params]

    def __init__(
        self, settings: Settings, spec: StudySpec, say: Say, fence: Fence | None = None
    ) -> None:
        """Waits until it is in line with our tables. Raises what OptunaMirror raises."""
        self._gone, self._say = False, say
        self.process, self._pipe = process_beside(_mirror, settings, spec, fence)
        try:
            self.unknown = self._answer() or {}
        finally:
            if self._gone:
                self.process.join()

    def add(self, family: str, values: Mapping[str, object]) -> None:
        self._send("add", family, dict(values))

    def tell(
        self, number: int, values: Sequence[float], points: Sequence[Mapping[str, float]] = ()
    ) -> None:
        self._send("tell", number, values, points)

    def stop(self, number: int, epoch: int, values: Sequence[float]) -> None:
        self._send("stop", number, epoch, values)

    def fail(self, number: int) -> None:
        self._send("fail", number)

    def close(self) -> None:
        """Wait until the tables hold everything. Raises what a write raised."""
        try:
            self._send(CLOSE)
            self._answer()
        finally:
            self.process.join()
            self._pipe.close()

    def _send(self, *message: object) -> None:
        if self._gone:
            return
        with suppress(OSError):  # it is gone; what it said before is its reason
            if not self._pipe.poll():
                self._pipe.send(message)
                return
        self._answer()

    def _answer(self) -> Any:
        """What the process says next. Raises it where it is an error."""
        if self._gone:
            return None
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._gone = True
            self._say(
                "the process that writes Optuna's tables ended; trials go on, and the next search of this study "
                "writes there what is missing"
            )
            return None
        if isinstance(answer, Exception):
            self._gone = True
            raise answer
        return answer


def mirror_beside(
    slots: int, store: Store, settings: Settings, spec: StudySpec, say: Say
) -> Mirror:
    """What follows a study of so many trainings at once; made or brought in line with our tables."""
    if slots >= MANY:
        return MirrorProcess(settings, spec, say, store.fence)
    return _opened(store, settings, spec)


def _opened(store: Store, settings: Settings, spec: StudySpec) -> OptunaMirror:
    with creating(settings.optuna_url):
        storage = optuna_storage(settings.optuna_url)
    return mirror_for(storage, store, spec)


def _mirror(pipe: Connection, settings: Settings, spec: StudySpec, fence: Fence | None) -> None:
    with suppress(EOFError, OSError):
        try:
            _follow(pipe, settings, spec, fence)
        except (EOFError, BrokenPipeError, ConnectionError):
            raise  # the driver is gone
        except Exception as error:
            pipe.send(error)


def _follow(pipe: Connection, settings: Settings, spec: StudySpec, fence: Fence | None) -> None:
    store = Store.open(settings.database_url)
    store.fence = fence
    mirror = _opened(store, settings, spec)
    mirror.gather = GATHER_SECONDS
    store.close()
    pipe.send(dict(mirror.unknown))
    while (message := pipe.recv()) != (CLOSE,):
        name, *values = message
        getattr(mirror, name)(*values)
    mirror.close()
    pipe.send(None)
