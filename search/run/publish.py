"""MLflow kept up with a running study, by a thread that never holds a trial up.

When MLflow is away it says so once; what was missed stays marked in our tables and `dynafront sync` brings it over.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from search.run.view import View
from search.spec import StudySpec
from spaces.contract.error_lines import first_line
from storage.errors import TakenOverError
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store

logger = logging.getLogger(f"dynafront.{__name__}")

FRONT_SECONDS = 60.0  # at most so often is the front drawn while a study runs
RETRY_SECONDS = 30.0  # after a failure, MLflow is left alone for this long


class Publisher:
    """Follows a running study. Start it, report to it what happened, close it."""

    def __init__(
        self, store: Store, settings: Settings, spec: StudySpec, say: Callable[[str], None]
    ) -> None:
        self._view, self._store = View(store, settings, spec), store
        self._say = say
        self._queue: queue.Queue[tuple[Kind, int] | None] = queue.Queue()
        self._front_changed = False
        self._away_until = 0.0
        self._complained = False
        self._taken_over = False
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_until_open(self, seconds: float = 120.0) -> None:
        """Wait for the first contact with MLflow (a new database takes seconds to make), successful or not."""
        self._opened.wait(seconds)

    def trial_finished(self, kind: Kind, number: int) -> None:
        self._queue.put((kind, number))

    def front_changed(self) -> None:
        self._front_changed = True

    @property
    def away(self) -> bool:
        """Whether MLflow did not answer when it was last asked, or has not yet."""
        return self._complained or self._thread.is_alive()

    def close(self, seconds: float = 60.0) -> None:
        """Finish what is queued and draw the front a last time, within a time limit."""
        self._queue.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say("MLflow is slow; run `dynafront sync` later to bring it up to date")

    def _follow(self) -> None:
        drawn, last = 0.0, False
        self._try(self._view.open)
        self._opened.set()
        while not last:
            try:
                item = self._queue.get(timeout=1.0)
                last = item is None
                if item is not None:
                    self._try(lambda item=item: self._view.show_trial(*item))  # type: ignore[misc]
            except queue.Empty:
                pass
            due = last or (self._front_changed and time.monotonic() - drawn > FRONT_SECONDS)
            if due and (self._front_changed or last):
                self._front_changed, drawn = False, time.monotonic()
                self._try(self._view.show_front)
        self._try(self._view.show_missed)
        self._try(self._view.close)

    def _try(self, action: Callable[[], Any]) -> None:
        if time.monotonic() < self._away_until:
            return
        try:
            # MLflow takes part in no transaction of ours: who is not the driver any more stays away from it
            self._taken_over = self._taken_over or self._store.is_taken_over
            if not self._taken_over:
                action()
            self._complained = False
        except TakenOverError:
            self._taken_over = True
        except Exception as error:  # whatever MLflow throws, the study goes on
            logger.warning("MLflow does not follow: %s", error)
            logger.debug("where that was", exc_info=error)
            self._away_until = time.monotonic() + RETRY_SECONDS
            if not self._complained:
                self._complained = True
                reason = first_line(error)
                self._say(
                    f"MLflow cannot be reached ({reason[:160]}); trials go on, `dynafront sync` will catch up"
                )
