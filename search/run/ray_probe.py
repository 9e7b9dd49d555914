"""Number formats, measured on a node of the Ray cluster: the machine of the driver may be of another kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from search.run.job import Job
from search.run.number_formats import CrashedError
from search.run.ray_cluster import ClusterError
from search.run.ray_engine import RayEngine
from spaces.contract.task import Task
from trainers.execution import Execution

TRIES = 3  # places that may be lost while they measure


class ClusterProbe:
    """As `search.run.number_formats.Probe`, in a place that was found. Raises ClusterError.

    `check` is called while it waits for one, and raises to end that.
    """

    def __init__(self, engine: RayEngine, check: Callable[[], None] = lambda: None) -> None:
        self._engine, self._check = engine, check

    def device(self, asked: str) -> str:
        return str(self._asked("device", asked))

    def device_name(self, device: str) -> str:
        return str(self._asked("device_name", device))

    def fastest(self, job: Job, task: Task, without: Sequence[Execution]) -> Execution:
        found, crashed = self._asked("fastest", job, task, tuple(without))
        if crashed:
            raise CrashedError(found)
        assert isinstance(found, Execution)
        return found

    def close(self) -> None:
        """Its processes end with their places."""

    def _asked(self, what: str, *arguments: Any) -> Any:
        for _ in range(TRIES):
            answer = self._engine.ask(self._engine.found_place(self._check), what, *arguments)
            if answer is not None:
                return answer
        raise ClusterError(
            f"{TRIES} processes of the cluster ended while they measured number formats"
        )
