"""Trials on a Ray cluster: each in an actor that has the CPUs and GPUs of one trial, wherever Ray finds them.

The driver decides as it does with worker processes. Ray finds places, asks an autoscaler for more machines, and says
which are lost. What was trained there goes on elsewhere from its checkpoint: the driver submits it again. Ray itself
restarts nothing, for a training that goes on tells its last epoch again, and is asked other rungs.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from search.run.job import EpochResult, Event, Failure, Job, Outcome
from search.run.ray_cluster import Cluster, address_of, check_installed, connected
from search.run.ray_errors import place_is_lost
from search.run.ray_offer import offered, resources, waiting_text
from search.run.ray_places import Place, Places
from search.run.ray_trainer import Trainer
from search.study_parts import Run
from storage.records import training_text

logger = logging.getLogger(f"dynafront.{__name__}")

WAIT_SECONDS = 60.0  # without any place, before that is said
LOOK_SECONDS = 0.2  # between two looks at which places there are


class RayEngine:
    """Up to `most` trials at once on the cluster that `run.address` names, which is opened when it is needed first."""

    # waiting until nothing else trains would empty the cluster for one training
    shared = shares_machine = False
    has_room = True  # Ray's places have resources

    def __init__(self, run: Run, most: int, trainer: type[Trainer] = Trainer) -> None:
        check_installed()
        self._run, self._most, self._trainer = run, min(run.max_trials, most), trainer
        self._opened: tuple[Cluster, Places] | None = None
        self._say: Callable[[str], None] = lambda line: None
        self._say_at = WAIT_SECONDS
        self._lost: deque[tuple[Job, Failure]] = deque()  # found so by a question; not told yet

    def open(self, say: Callable[[str], None] = lambda line: None) -> None:
        """Connect to the cluster; `say` is told what it has, and what takes seconds. Raises ClusterError."""
        if self._opened is not None:
            return
        address = address_of(self._run.address)
        cluster = connected(address, say)
        places = Places(cluster.ray, self._run, self._most, self._trainer, alone=address is None)
        self._opened = cluster, places
        say(offered(address, resources(cluster.ray), self._run).line(self._run))

    def say_on(self, say: Callable[[str], None]) -> None:
        """From now on `say` is told where no training finds a place."""
        self._say = say

    @property
    def slots(self) -> int:
        """How many places there are now. One at least: a training waits in Ray for its place."""
        return max(1, self._tended().count)

    def submit(self, job: Job) -> None:
        place = self.next_place()
        place.begin(job)
        where = place.node.name if place.node else "that Ray finds"
        logger.info("%s goes to node %s", training_text(*job.name), where)

    def next_place(self) -> Place:
        """Where the next job goes."""
        return self._tended().free()

    def found_place(self, check: Callable[[], None] = lambda: None) -> Place:
        """A place that Ray has found, and that trains nothing if there is one; waits until there is any.

        `check` is called meanwhile, and raises to end the wait.
        """
        while (place := self._tended().found()) is None:
            check()
            time.sleep(LOOK_SECONDS)
        return place

    def ask(self, place: Place, what: str, *arguments: Any) -> Any:
        """What a method of the place's trainer returns; None where the place is lost.

        What was trained there is told as lost by the next `next_event`.
        """
        ray, places = self._ray, self._tended()
        try:
            return ray.get(getattr(place.actor, what).remote(*arguments))
        except ray.exceptions.RayError as error:
            if not place_is_lost(error):
                raise
            logger.warning("a place was lost when it was asked for %s", what, exc_info=error)
            if place.job is not None:
                self._lost.append((place.job, place.death(error)))
            places.drop(place)
            return None

    def next_event(self, timeout: float) -> tuple[Job, Event] | None:
        if self._lost:
            return self._lost.popleft()
        busy = {place.events: place for place in self._tended().busy}
        if not busy:
            time.sleep(timeout)
            return None
        ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=timeout)
        if not ready:
            return None
        place = busy[ready[0]]
        job = place.job
        assert job is not None
        event = self._received(place)
        return None if event is None else (job, event)

    def answer(self, job: Job, go_on: bool) -> None:
        place = next((p for p in self._tended().busy if p.job and p.job.name == job.name), None)
        if place is None:  # it is lost since, which next_event has said
            return
        place.actor.answer.remote(go_on)
        if not go_on:
            place.end()

    def close(self) -> None:
        if self._opened is None:
            return
        cluster, places = self._opened
        if not cluster.is_lost:
            places.drop_all()
        cluster.close()
        self._opened = None

    @property
    def _ray(self) -> Any:
        self.open()
        assert self._opened is not None
        return self._opened[0].ray

    def _tended(self) -> Places:
        """The places as they are now. Raises ClusterError."""
        self.open()
        assert self._opened is not None
        cluster, places = self._opened
        cluster.check()
        places.tend()
        for line in places.notices():
            self._say(line)
        self._say_if_waiting(cluster, places)
        return places

    def _say_if_waiting(self, cluster: Cluster, places: Places) -> None:
        """Say after a minute without any place what is missing, and again after two, four and so on."""
        waited = places.waited
        if not waited:
            self._say_at = WAIT_SECONDS
        elif waited >= self._say_at:
            self._say_at = 2 * waited
            self._say(waiting_text(cluster.ray, places.asked, waited, places.why_lost))

    def _received(self, place: Place) -> Event | None:
        """What its training says next: a Failure where the actor is lost, None where that never began."""
        assert self._opened is not None
        _, places = self._opened
        try:
            event: Event = self._ray.get(next(place.events))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            if place.node is None:
                places.lose(place, error)
                return None
            failure = place.death(error)
            logger.warning("%s", failure.error, exc_info=error)
            places.drop(place)
            return failure
        if isinstance(event, EpochResult):
            place.epoch = event.epoch
        if isinstance(event, Outcome | Failure):
            place.end()
        return event
