"""Imported first by a process that others are forked from: it ends soon after the one that started it.

By itself it ends only after all of its forks, and hears nothing while it imports, which takes seconds, on a busy
machine a minute. Where `STARTED_BY` is not set, importing this does nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

STARTED_BY = "DYNAFRONT_STARTED_BY"  # the variable with the process id of the one that starts it
SECONDS = 0.5  # between two looks
PR_SET_PDEATHSIG = 1  # of Linux, see prctl(2)


def end_with_server() -> None:
    """Let the kernel end this fork with the process that it is a fork of, whatever it does then; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(parent: int) -> None:
    def look(*_: object) -> None:
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)


if _parent := os.environ.pop(STARTED_BY, ""):
    _watch(int(_parent))
