"""Processes that are started anew, and do not run the caller's program again.

multiprocessing imports the program's main module in each of them, for functions that are pickled from there. Nothing
of ours is; and a script that launches a search without `if __name__ == "__main__":` would launch it in every worker.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import context
from multiprocessing.connection import wait
from types import ModuleType

from trainers.data import fork_server

_ONE_THREAD = threading.Lock()  # two at once could put the empty module back in the end


@contextmanager
def _without_main() -> Iterator[None]:
    """In it, the main module is an empty one, which no process imports. One thread at a time."""
    with _ONE_THREAD:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


class _SpawnProcess(context.SpawnProcess):
    def start(self) -> None:
        with _without_main():
            super().start()


class _SpawnContext(context.SpawnContext):
    Process = _SpawnProcess


def spawned() -> context.SpawnContext:
    """Every process is a new interpreter."""
    return _SpawnContext()


if sys.platform == "win32":

    def forked_from_server(preload: list[str]) -> context.BaseContext:
        """Every process is a new interpreter: this system forks none."""
        return spawned()

else:
    from multiprocessing import forkserver

    class _ForkServerProcess(context.ForkServerProcess):
        def start(self) -> None:
            with _without_main():
                super().start()

    class _ForkServerContext(context.ForkServerContext):
        Process = _ForkServerProcess

    def forked_from_server(preload: list[str]) -> context.BaseContext:
        """Every process is a fork of one that has imported the modules `preload`, and does nothing else.

        That one begins at once, and ends with this program, also while it imports. There is one a program: modules of
        a second call are imported by each process for itself.
        """
        found = _ForkServerContext()
        found.set_forkserver_preload([fork_server.__name__, *preload])
        with _without_main():
            os.environ[fork_server.STARTED_BY] = str(os.getpid())
            try:
                forkserver.ensure_running()
            finally:
                del os.environ[fork_server.STARTED_BY]
        return found


def end_with_parent() -> None:
    """Let this process end as soon as the one that started it is gone, however that ended.

    A fork that hangs ends with the program at least.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        if parent.pid != os.getppid():
            fork_server.end_with_server()
        threading.Thread(
            target=_end_after, args=(parent.sentinel,), name="end with parent", daemon=True
        ).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
