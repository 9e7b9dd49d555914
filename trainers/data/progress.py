"""How far this process is with its work, as a count that only grows: batches that were drawn, images that were decoded.

Whoever watches the process tells a hang from long work by it. What is computed does not depend on it.
"""

from __future__ import annotations


class _Count:
    steps = 0


def advance() -> None:
    """One more step of work is done."""
    _Count.steps += 1


def steps() -> int:
    """So many were done since the process started."""
    return _Count.steps
