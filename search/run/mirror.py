"""What follows the trials of a search in Optuna's tables: OptunaMirror, or a process that runs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from search.schedule.history import Params


class Mirror(Protocol):
    """Writes what happened to Optuna's tables, in its order. Any call may raise what an earlier write raised."""

    @property
    def unknown(self) -> Mapping[int, Params]:
        """Trials that Optuna's tables had and ours did not, when it began."""
        ...

    def add(self, family: str, values: Mapping[str, object]) -> None: ...

    def tell(
        self, number: int, values: Sequence[float], points: Sequence[Mapping[str, float]] = ()
    ) -> None: ...

    def stop(self, number: int, epoch: int, values: Sequence[float]) -> None: ...

    def fail(self, number: int) -> None: ...

    def close(self) -> None: ...
