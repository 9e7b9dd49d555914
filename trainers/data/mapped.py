"""A function of many stored images, by threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from trainers.data.images import Stored

BLOCK = 1024  # encoded images in memory at a time
TASK = 16  # images a thread takes at once: handing over a small one costs as much as decoding it

T = TypeVar("T")


def mapped(
    function: Callable[[str, Stored], T], items: Iterable[tuple[str, Stored]]
) -> Iterator[T]:
    """function(name, image) of each item, in order, by threads: Pillow lets them run side by side."""
    items = iter(items)
    with ThreadPoolExecutor(cores()) as threads:
        while block := list(islice(items, BLOCK)):
            parts = [block[start : start + TASK] for start in range(0, len(block), TASK)]
            for done in threads.map(lambda part: [function(*item) for item in part], parts):
                yield from done


def cores() -> int:
    """Cores that this process may use, 8 at most."""
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(8, usable)
