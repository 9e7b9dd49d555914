"""One measurement of time at a time on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

NAME = "dynafront-timing.lock"


@contextmanager
def timing() -> Iterator[None]:
    """Hold the right to measure times; waits for whoever has it. Processes of any user of the machine take turns."""
    with FileLock(Path(tempfile.gettempdir()) / NAME, mode=0o666):
        yield
