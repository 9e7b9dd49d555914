"""The signal by which another process, or another thread of this one, stops a search.

It is SIGTERM: a shell has what it starts with `&` from a script ignore Ctrl-C, and so does cron.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOP = signal.SIGTERM


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the signal raises KeyboardInterrupt as Ctrl-C does, unless the program has a handler of its own."""
    before = signal.getsignal(STOP)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if before not in (signal.SIG_DFL, signal.SIG_IGN) or not in_main_thread:
        yield
        return
    signal.signal(STOP, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(STOP, before)


def stop_this_process() -> None:
    """Interrupt the main thread; where nothing would hear the signal but the system, which ends the process, Ctrl-C."""
    os.kill(os.getpid(), STOP if callable(signal.getsignal(STOP)) else signal.SIGINT)
