"""Two GPUs, made up: how much of each is taken is set by hand, and so is the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from search.run.gpu_room import GpuRoom
from storage.records import Kind

GB = 10**9


class LookingRoom(GpuRoom):
    """Looks before it places, as an engine does."""

    def place(self, training: tuple[Kind, int], needed: int) -> int | None:
        assert self.look()
        return super().place(training, needed)


@dataclass
class Machine:
    """Two GPUs of 10 GB: `used` are the gigabytes that are taken there now, by anybody. Its clock is set by hand."""

    used: list[float] = field(default_factory=lambda: [0.0, 0.0])
    now: float = 0.0
    closed: bool = False

    def __call__(self) -> Sequence[tuple[int, int]]:
        return [(round((10 - one) * GB), 10 * GB) for one in self.used]

    def overhead(self) -> int:
        return GB // 2

    def close(self) -> None:
        self.closed = True

    def room(self) -> LookingRoom:
        return LookingRoom(self, lambda: self.now)
