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
from search.run.ray_cluster import Cluster, address_of, check_installed, connected
from search.run.ray_offer import needs, offered, resources
from search.run.ray_trainer import Node, Trainer
from search.run.watch import TrialLimits
from search.study_parts import Run

logger = logging.getLogger(f"dynafront.{__name__}")

NAMES = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}  # in options of an actor
THREADS = 4  # of an actor, see Trainer
IDLE_SECONDS = (
    60.0  # that a place may be empty before it is given back, as long as there is another empty one
)


@dataclass(eq=False)
class Place:
    """An actor, as the driver sees it. `node` is None as long as Ray has not placed it."""

    actor: Any
    placed: Any  # reference to its node
    held: Any  # reference that comes to nothing as long as it lives
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

    def __init__(self, run: Run, most: int, trainer: type[Trainer] = Trainer) -> None:
        check_installed()
        self._run, self._most = run, min(run.max_trials, most)
        self._trainer = trainer
        self._places: list[Place] = []
        self._cluster: Cluster | None = None

    def open(self, say: Callable[[str], None] = lambda line: None) -> None:
        """Connect to the cluster; `say` is told what takes seconds. Raises ClusterError."""
        if self._cluster is None:
            self._cluster = connected(self._run.address, say)
            found = offered(address_of(self._run.address), resources(self.ray), self._run)
            say(found.line(self._run))

    @property
    def slots(self) -> int:
        """How many places there are now. One at least: a training waits in Ray for its place."""
        self._tend()
        return max(1, sum(place.node is not None for place in self._places))

    def submit(self, job: Job) -> None:
        place = self.next_place()
        place.begin(job)
        logger.info(
            "trial %d of %s goes to %s", job.number, job.kind, place.node or "a place to be"
        )

    def next_place(self) -> Place:
        """Where the next job goes: a place that is free, else the first that will be."""
        self._tend()
        return self._free_place()

    def _free_place(self) -> Place:
        free = [place for place in self._places if place.is_free]
        placed = [place for place in free if place.node is not None]
        return (placed or free or [self._new_place()])[0]

    def forget(self, place: Place) -> None:
        """The place is lost."""
        self._drop(place)

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        self._tend()
        busy = {place.events: place for place in self._places if not place.is_free}
        if not busy:
            time.sleep(timeout)
            return None
        ready, _ = self.ray.wait(list(busy), num_returns=1, timeout=timeout)
        if not ready:
            return None
        place = busy[ready[0]]
        job = place.job
        assert job is not None
        event = self._received(place)
        return None if event is None else (job, event)

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
        for place in self._places if not self._cluster.is_lost else ():
            self.ray.kill(place.actor)
        self._places.clear()
        self._cluster.close()
        self._cluster = None

    @property
    def ray(self) -> Any:
        """Ray, connected to the cluster."""
        self.open()
        assert self._cluster is not None
        return self._cluster.ray

    def _received(self, place: Place) -> Event | None:
        """What its training says next: a Failure where the actor is lost, None where that never began."""
        try:
            event: Event = self.ray.get(next(place.events))
        except (self.ray.exceptions.RayError, StopIteration) as error:
            if place.node is None:
                self._lose(place, error)
                return None
            self._drop(place)
            failure = _lost(place, error)
            logger.warning("%s", failure.error, exc_info=error)
            return failure
        if isinstance(event, EpochResult):
            place.epoch = event.epoch
        if isinstance(event, Outcome | Failure):
            place.end()
        return event

    def _tend(self) -> None:
        """Take in which places there are, ask for more, and give back what nobody needs. Raises ClusterError."""
        self.open()
        assert self._cluster is not None
        self._cluster.check()
        self._take_in()
        free = [place for place in self._places if place.node is not None and place.is_free]
        waiting = [place for place in self._places if place.node is None and not place.is_free]
        for place, other in zip(waiting, free, strict=False):  # what comes first is taken
            assert place.job is not None
            other.begin(place.job)
            self._drop(place)
        free = free[len(waiting) :]
        if not free:
            while len(self._places) < self._most:
                self._new_place()
        for place in free[1:]:
            if time.monotonic() - place.idle_since > IDLE_SECONDS:
                self._drop(place)

    def _take_in(self) -> None:
        """Which places Ray has found since, and which free ones are lost."""
        for place in self._ready({place.placed: place for place in self._places if not place.node}):
            try:
                place.node = self.ray.get(place.placed)
            except self.ray.exceptions.RayError as error:
                self._lose(place, error)
                continue
            place.idle_since = time.monotonic()
            logger.info("there is a place on node %s", place.node.name)
        placed = (place for place in self._places if place.node is not None and place.is_free)
        for place in self._ready({place.held: place for place in placed}):
            self._lose(place, None)

    def _ready(self, places: dict[Any, Place]) -> list[Place]:
        """Those whose reference has come to something."""
        found, _ = self.ray.wait(list(places), num_returns=max(1, len(places)), timeout=0)
        return [places[reference] for reference in found]

    def _lose(self, place: Place, error: Exception | None) -> None:
        """A place is gone that was free or was still to be found; its job has not begun, and goes to another one.

        Until Ray has noticed that a node is lost, it looks for places there.
        """
        logger.warning("a place is lost: %s", place.node or "none yet", exc_info=error)
        self._drop(place)
        if place.job is not None:
            self._free_place().begin(place.job)

    def _drop(self, place: Place) -> None:
        """Give it back."""
        self.ray.kill(place.actor)
        self._places.remove(place)

    def _new_place(self) -> Place:
        """One more actor; Ray starts it once there are its CPUs and GPUs."""
        run = self._run
        asked = needs(run, bool(self.ray.cluster_resources().get("GPU")))
        options = {NAMES[name]: amount for name, amount in asked.items()}
        options |= {"max_concurrency": THREADS, "max_restarts": 0}
        made = self.ray.remote(self._trainer).options(**options)
        actor = made.remote(TrialLimits.of(run), run.gpus, os.getcwd(), verbosity())
        place = Place(actor, actor.node.remote(), actor.hold.remote())
        self._places.append(place)
        return place


def _lost(place: Place, error: Exception) -> Failure:
    """What is said of a training whose actor is gone."""
    node = f" {place.node.name}" if place.node else ""
    memory = "low on memory" in str(error)  # Ray ends processes before a node has none left
    if memory:
        said = f"its process on node{node} was ended by Ray, for the node ran out of memory"
    elif "node has died" in str(error) or "node died" in str(error):
        said = f"its node{node} is lost"
    else:
        said = f"its process on node{node} is lost"
    epoch = place.epoch + 1 if place.epoch else None
    return Failure(said, epoch, "", crashed=True, memory=memory)
