"""What a training may take before its process is ended from outside: time, silence, memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from search.run.job import Failure
from search.study_parts import Run

KILLS = Path("/proc/vmstat")  # Linux: has the number of processes that the kernel killed for memory
LONGEST = (
    10.0  # seconds between two looks that count; more went by while the driver itself was suspended
)
GB = 1e9


@dataclass(frozen=True, kw_only=True)
class TrialLimits:
    """Bounds of one training; None: no bound. `memory` is in bytes, of its process and those that it started."""

    seconds: float | None = None
    stall_seconds: float | None = None
    memory: float | None = None

    @classmethod
    def of(cls, run: Run) -> TrialLimits:
        """As the study file says them."""
        return cls(
            seconds=None if run.trial_hours is None else 3600 * run.trial_hours,
            stall_seconds=60 * run.stall_minutes,
            memory=None if run.memory_gigabytes is None else GB * run.memory_gigabytes,
        )


class Watch:
    """Watches one training in another process. `steps` counts what that has done so far.

    Time in which nobody looked, because the watching process was suspended too, counts as LONGEST at most.
    """

    def __init__(
        self,
        limits: TrialLimits,
        steps: Callable[[], int],
        memory: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._steps, self._memory, self._clock = limits, steps, memory, clock
        self._looked, self._spent, self._silent = clock(), 0.0, 0.0
        self._seen = steps()

    def heard(self) -> None:
        """It reported something."""
        self._silent = 0.0

    def look(self) -> Failure | None:
        """Why the training has to be ended, if it has to."""
        now, seen = self._clock(), self._steps()
        passed, self._looked = min(now - self._looked, LONGEST), now
        self._spent += passed
        self._silent = 0.0 if seen != self._seen else self._silent + passed
        self._seen = seen
        return self._too_long() or self._stalled() or self._too_large()

    def _too_long(self) -> Failure | None:
        most = self._limits.seconds
        if most is None or self._spent <= most:
            return None
        return Failure(f"it took more than run.trial_hours: {most / 3600:g}", None, "")

    def _stalled(self) -> Failure | None:
        most = self._limits.stall_seconds
        if most is None or self._silent <= most:
            return None
        reason = f"it did nothing for run.stall_minutes: {most / 60:g}; its process hangs"
        return Failure(reason, None, "", crashed=True)

    def _too_large(self) -> Failure | None:
        most = self._limits.memory
        if most is None or (used := self._memory()) <= most:
            return None
        reason = (
            f"it took {used / GB:.2f} GB of memory, more than run.memory_gigabytes: {most / GB:g}"
        )
        return Failure(reason, None, "")


def own_memory(pid: int) -> int:
    """Bytes that a process, and those that it started, have for themselves; 0 where it is gone.

    Pages of files, such as decoded images that all processes map, are not counted where the system tells them apart.
    """
    total = 0
    for process in family_of(pid):
        try:
            info = process.memory_info()
        except psutil.Error:
            continue
        total += max(0, info.rss - getattr(info, "shared", 0))
    return total


def family_of(pid: int) -> list[psutil.Process]:
    """The process and all that it started; none where it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def kernel_kills(counters: Path = KILLS) -> int | None:
    """How many processes the kernel has killed on this machine because memory ran out; None where it does not say."""
    try:
        lines = counters.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(found[0]) if found else None
