"""Processes that are started anew, and do not run the caller's program again.

multiprocessing imports the program's main module in each of them, for functions that are pickled from there. Nothing
of ours is; and a script that launches a search without `if __name__ == "__main__":` would launch it in every worker.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import context
from types import ModuleType

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

    class _ForkServerProcess(context.ForkServerProcess):
        def start(self) -> None:
            with _without_main():
                super().start()

    class _ForkServerContext(context.ForkServerContext):
        Process = _ForkServerProcess

    def forked_from_server(preload: list[str]) -> context.BaseContext:
        """Every process is a fork of one that has imported the modules `preload`, and does nothing else."""
        found = _ForkServerContext()
        found.set_forkserver_preload(preload)
        return found
