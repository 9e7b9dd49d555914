"""Trials on a Ray cluster: each in an actor that has the CPUs and GPUs of one trial, wherever Ray finds them.

The driver decides as it does with worker processes. A place is an actor; it takes one job after the other. Ray places
them, asks an autoscaler for more machines, and says which are lost. What was trained there then goes on elsewhere from
its checkpoint: the driver submits it again. Ray itself restarts nothing, for a training that goes on tells its epochs
again, and is asked other rungs.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search.logs import verbosity
from search.run.job import EpochResult, Event, Failure, Job, Outcome
from search.run.ray_cluster import Cluster, check_installed, connected
from search.run.ray_trainer import Node, Trainer
from search.run.watch import TrialLimits
from search.study_parts import Run

logger = logging.getLogger(f"dynafront.{__name__}")

THREADS = 3  # of an actor, see Trainer
IDLE_SECONDS = (
    60.0  # that a place may be empty before it is given back, as long as there is another empty one
)
CHECK_SECONDS = 5.0  # between two looks at the cluster


@dataclass(eq=False)
class Place:
    """An actor, as the driver sees it. `node` is None as long as Ray has not placed it."""

    actor: Any
    placed: Any  # reference to its node
    node: Node | None = None
    job: Job | None = None
    events: Any = None  # of the job: a stream of references
    epoch: int = 0  # the last one that the job has finished
    idle_since: float = 0.0

    @property
    def is_free(self) -> bool:
        return self.job is None

    def begin(self, job: Job) -> None:
        self.job, self.epoch = job, 0
        self.events = self.actor.train.options(num_returns="streaming").remote(job)

    def end(self) -> None:
        """It trains nothing any more."""
        self.job = self.events = None
        self.idle_since = time.monotonic()


class RayEngine:
    """Up to `most` trials at once on the cluster that `run.address` names, which is opened when it is needed first."""

    # waiting until nothing else trains would empty the cluster for one training
    shared = shares_machine = False

    def __init__(self, run: Run, most: int) -> None:
        check_installed()
        self._run, self._most = run, min(run.max_trials, most)
        self._places: list[Place] = []
        self._cluster: Cluster | None = None
        self._checked = 0.0

    def open(self, say: Callable[[str], None] = lambda line: None) -> None:
        """Connect to the cluster; `say` is told what takes seconds. Raises ClusterError."""
        if self._cluster is None:
            self._cluster = connected(self._run.address, say)
            self._tend()

    @property
    def slots(self) -> int:
        """How many places there are now. One at least: a training waits in Ray for its place."""
        self._tend()
        return max(1, sum(place.node is not None for place in self._places))

    def submit(self, job: Job) -> None:
        self._tend()
        free = [place for place in self._places if place.is_free]
        placed = [place for place in free if place.node is not None]
        place = (placed or free or [self._new_place()])[0]
        place.begin(job)
        logger.info(
            "trial %d of %s goes to %s", job.number, job.kind, place.node or "a place to be"
        )

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        self._tend()
        busy = {place.events: place for place in self._places if not place.is_free}
        if not busy:
            time.sleep(timeout)
            return None
        ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=timeout)
        if not ready:
            return None
        place = busy[ready[0]]
        job = place.job
        assert job is not None
        return job, self._received(place)

    def answer(self, job: Job, go_on: bool) -> None:
        place = next((p for p in self._places if p.job and p.job.name == job.name), None)
        if place is None:  # it is lost since, which next_event has said
            return
        place.actor.answer.remote(go_on)
        if not go_on:
            place.end()

    def close(self) -> None:
        if self._cluster is None:
            return
        for place in self._places:
            self._ray.kill(place.actor)
        self._places.clear()
        self._cluster.close()
        self._cluster = None

    @property
    def _ray(self) -> Any:
        self.open()
        assert self._cluster is not None
        return self._cluster.ray

    def _received(self, place: Place) -> Event:
        """What its training says next; a Failure where the actor is lost."""
        try:
            event: Event = self._ray.get(next(place.events))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            self._places.remove(place)
            failure = _lost(place, error)
            logger.warning("%s", failure.error, exc_info=error)
            return failure
        if isinstance(event, EpochResult):
            place.epoch = event.epoch
        if isinstance(event, Outcome | Failure):
            place.end()
        return event

    def _tend(self) -> None:
        """Take in which places there are, ask for more, and give back what nobody needs."""
        waiting = {place.placed: place for place in self._places if place.node is None}
        ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for reference in ready:
            place = waiting[reference]
            try:
                place.node = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                logger.warning("a place was lost before it was used: %s", error)
                if place.is_free:  # else its stream says so
                    self._places.remove(place)
                continue
            place.idle_since = time.monotonic()
            logger.info("there is a place on node %s", place.node.name)
        free = [place for place in self._places if place.node is not None and place.is_free]
        if not free:
            while len(self._places) < self._most:
                self._new_place()
        self._give_back(free[1:])

    def _give_back(self, free: list[Place]) -> None:
        for place in free:
            if time.monotonic() - place.idle_since > IDLE_SECONDS:
                self._ray.kill(place.actor)
                self._places.remove(place)

    def _new_place(self) -> Place:
        """One more actor; Ray starts it once there are its CPUs and GPUs."""
        run = self._run
        options: dict[str, Any] = {
            "num_cpus": run.cpus_per_trial,
            "num_gpus": self._gpus(),
            "max_concurrency": THREADS,
            "max_restarts": 0,
        }
        if run.memory_gigabytes is not None:
            options["memory"] = int(1e9 * run.memory_gigabytes)
        made = self._ray.remote(Trainer).options(**options)
        actor = made.remote(TrialLimits.of(run), run.gpus, os.getcwd(), verbosity())
        place = Place(actor, actor.node.remote())
        self._places.append(place)
        return place

    def _gpus(self) -> float:
        """What Ray is asked for: none where the study trains on the CPU, or no node has one."""
        if self._run.device == "cpu":
            return 0
        there = self._ray.cluster_resources().get("GPU", 0)
        return self._run.gpus_per_trial if there or self._run.device == "cuda" else 0


def _lost(place: Place, error: Exception) -> Failure:
    where = f" on node {place.node.name}" if place.node else ""
    memory = "low on memory" in str(error)
    why = ": killed by Ray, for the node ran out of memory" if memory else ""
    epoch = place.epoch + 1 if place.epoch else None
    return Failure(f"its process{where} is gone{why}", epoch, "", crashed=True, memory=memory)
