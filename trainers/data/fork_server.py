"""Imported first by a process that others are forked from: until it forks, it ends soon after the one that started it.

Its other imports take seconds, on a busy machine a minute, in which it hears nothing of that. Where `STARTED_BY` is
not set, importing this does nothing.
"""

from __future__ import annotations

import os
import signal

STARTED_BY = "DYNAFRONT_STARTED_BY"  # the variable with the process id of the one that starts it
SECONDS = 0.2  # between two looks


def _watch(parent: int) -> None:
    def look(*_: object) -> None:
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    os.register_at_fork(before=lambda: signal.setitimer(signal.ITIMER_REAL, 0))


if _parent := os.environ.pop(STARTED_BY, ""):
    _watch(int(_parent))
