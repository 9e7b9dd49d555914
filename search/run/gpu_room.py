"""Which GPU a training goes to where several share one, by how much memory it needs, or that it has to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from search.run.gpu_memory import USUAL
from storage.records import Kind

LEAVE_SECONDS = 5.0  # that an ended training may take to give its memory back
WHOLE = 2**62  # bytes that no GPU has: what a training needs of which nothing is known
Training = tuple[Kind, int]


@dataclass
class _Gpu:
    """What trains there, with the bytes that each needs; what has just ended, with when; and what others have.

    `idle_others` is what others had when nothing of ours was there: what runs has less than its peak at most times, so
    beside it only what is beyond all peaks is known to be others'.
    """

    total: int = 0
    others: int = 0
    idle_others: int = 0
    running: dict[Training, int] = field(default_factory=dict)
    leaving: list[tuple[float, int]] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """For all our trainings together."""
        return self.total - self.others

    @property
    def room(self) -> int:
        return self.capacity - sum(self.running.values())

    def look(self, free: int, total: int, now: float) -> None:
        """Take in how much is free now."""
        self.leaving = [(when, taken) for when, taken in self.leaving if now - when < LEAVE_SECONDS]
        ours = sum(self.running.values()) + sum(taken for _, taken in self.leaving)
        used = total - free
        if not self.running and not self.leaving:
            self.idle_others = used
        self.total, self.others = total, max(self.idle_others, used - ours)


class Memory(Protocol):
    """Tells the free and total bytes of each GPU, and what a process takes of one beside its tensors."""

    def __call__(self) -> Sequence[tuple[int, int]]: ...

    def overhead(self) -> int: ...

    def close(self) -> None: ...


class GpuRoom:
    """The GPUs of a machine, and what trains on them."""

    def __init__(self, memory: Memory, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory, self._clock = memory, clock
        self._gpus: list[_Gpu] = []
        self._least_overhead = 0

    def look(self) -> bool:
        """Take in how much is free now; False where that cannot be read."""
        seen = self._memory()
        self._gpus = self._gpus or [_Gpu() for _ in seen]
        for gpu, (free, total) in zip(self._gpus, seen, strict=True):
            gpu.look(free, total, self._clock())
        return bool(seen)

    def place(self, training: Training, needed: int) -> int | None:
        """The number of the GPU with most room at the last look, if that is enough: it is taken. None: it has to wait.

        Where no GPU would be large enough without our other trainings, it starts on one that has none. So what waits
        does so for one of ours to end.
        """
        return self.place_together({training: needed})

    def place_together(self, needs: Mapping[Training, int]) -> int | None:
        """The same for trainings that are to be on one GPU, with what each needs."""
        needed = sum(needs.values())
        best = max(self._gpus, key=lambda gpu: gpu.room)
        if needed > best.room:
            busy = [gpu for gpu in self._gpus if gpu.running]
            idle = [gpu for gpu in self._gpus if not gpu.running]
            if not idle or any(needed <= gpu.capacity for gpu in busy):
                return None
            best = max(idle, key=lambda gpu: gpu.room)
        best.running.update(needs)
        return next(n for n, gpu in enumerate(self._gpus) if gpu is best)

    def fitting(self, needs: Sequence[int]) -> int:
        """How many of these trainings, the first ones, the largest GPU could have at once; at least one."""
        most = max(gpu.capacity for gpu in self._gpus)
        return max(1, sum(taken <= most for taken in accumulate(needs)))

    def release(self, training: Training) -> None:
        """It has ended, if it was there."""
        for gpu in self._gpus:
            if (taken := gpu.running.pop(training, None)) is not None:
                gpu.leaving.append((self._clock(), taken))

    def overhead(self) -> int:
        """Bytes that a training's process takes beside its tensors. Ask before anything trains."""
        return max(self._memory.overhead(), self._least_overhead)

    def leave_mps(self) -> None:
        """Each process has a context of its own from now on; what was measured is the little that one takes of MPS."""
        self._least_overhead = USUAL

    def close(self) -> None:
        self._memory.close()
