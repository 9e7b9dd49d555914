"""MLflow kept up by a process of its own, where many trainings run: what it costs a trial would hold up the driver."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from search.run.engine import Say, StudyEngine
from search.run.follower import Follower
from search.run.publish import Publisher
from search.run.worker_process import process_beside
from search.spec import StudySpec
from storage.fence import Fence
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store

logger = logging.getLogger(f"dynafront.{__name__}")

MANY = (
    4  # trainings at once, up to which a thread is cheaper than to load MLflow in another process
)
FRONT = "front"  # the message that the front has changed
MORE_SECONDS = 10.0  # for the process to end after its publisher gave up


class PublisherProcess:
    """As Publisher, which it runs in another process. That one ends with this one, however this one ends."""

    def __init__(
        self, settings: Settings, spec: StudySpec, say: Say, fence: Fence | None = None
    ) -> None:
        self._settings, self._spec, self._fence = settings, spec, fence
        self._say, self._away, self._closing = say, True, False
        self._listener = threading.Thread(target=self._listen, name="mlflow", daemon=True)

    def start(self) -> None:
        given = self._settings, self._spec, self._fence
        self.process, self._pipe = process_beside(_publish, *given)
        self._listener.start()

    def trial_finished(self, kind: Kind, number: int) -> None:
        self._send((kind, number))

    def front_changed(self) -> None:
        self._send(FRONT)

    @property
    def away(self) -> bool:
        """Whether MLflow did not answer when it was last asked, or has not yet."""
        return self._away

    def close(self, seconds: float = 60.0) -> None:
        """Finish what is queued and draw the front a last time, within a time limit."""
        self._closing = True
        self._send(seconds)
        self.process.join(seconds + MORE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._listener.join()
        self._pipe.close()

    def _send(self, message: object) -> None:
        with suppress(OSError):  # it is gone, which the listener says
            self._pipe.send(message)

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while isinstance(said := self._pipe.recv(), str):
                self._say(said)
            self._away = said
            return
        if not self._closing:
            self._say("MLflow's process ended; trials go on, `dynafront sync` will catch up")


def publisher_for(
    engine: StudyEngine, store: Store, settings: Settings, spec: StudySpec, say: Say
) -> Publisher | PublisherProcess:
    """What keeps MLflow up with a study that trains on this engine."""
    if engine.slots > MANY:
        return PublisherProcess(settings, spec, say, store.fence)
    return Publisher(store, settings, spec, say)


def _publish(pipe: Connection, settings: Settings, spec: StudySpec, fence: Fence | None) -> None:
    store = Store.open(settings.database_url)
    store.fence = fence
    publisher = Publisher(store, settings, spec, pipe.send)
    store.say_on(logger.warning)
    publisher.start()
    with suppress(EOFError, OSError):
        message: Any
        while not isinstance(message := pipe.recv(), float | int):
            _follow(publisher, message)
        publisher.close(message)
        pipe.send(publisher.away)


def _follow(follower: Follower, message: tuple[Kind, int] | str) -> None:
    match message:
        case (Kind() as kind, int() as number):
            follower.trial_finished(kind, number)
        case _:
            follower.front_changed()
