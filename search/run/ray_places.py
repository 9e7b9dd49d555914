"""Places for trainings on a Ray cluster: as many as are wanted and there is room for, wherever Ray finds it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.logs import verbosity
from search.run.job import Failure, Job
from search.run.ray_cluster import ClusterError
from search.run.ray_errors import node_died, out_of_memory, reason
from search.run.ray_offer import needs, room
from search.run.ray_trainer import Node, Trainer
from search.run.watch import TrialLimits
from search.study_parts import Run

logger = logging.getLogger(f"dynafront.{__name__}")

NAMES = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}  # in options of an actor
NODE_LABEL = "ray.io/node-id"  # which Ray gives each node
EVERY_NODE = "every node must reach the folder of the search under the same path"
THREADS = 4  # of an actor, see Trainer
GPU_SECONDS = 5.0  # between two looks at whether the cluster has GPUs by now
IDLE_SECONDS = 60.0  # that a place may be empty while there is another empty one


@dataclass(eq=False)
class Place:
    """An actor that trains one job after the other. `node` is None as long as Ray has not placed it."""

    actor: Any
    placed: Any  # reference to its node
    held: Any  # reference that comes to nothing as long as it lives
    asked: Mapping[str, float] = field(default_factory=dict)  # what it has of its node
    avoids: frozenset[str] = frozenset()  # nodes that it may not be on, by Ray's ids
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

    def death(self, error: Exception) -> Failure:
        """What is said of its training once it is lost."""
        node = f" {self.node.name}" if self.node else ""
        memory = out_of_memory(error)
        said = f"its process on node{node} is lost"
        if memory:
            said = f"its process on node{node} was ended by Ray, for the node ran out of memory"
        elif node_died(error):
            said = f"its node{node} is lost"
        epoch = self.epoch + 1 if self.epoch else None
        return Failure(said, epoch, "", crashed=True, memory=memory, lost=not memory)


class Places:
    """Up to `most` places, each with what `run` says of a trial.

    As long as none is free, so many are asked for: that is what an autoscaler sees. Of those that are free for long,
    one is kept. `alone`: on a cluster of this machine alone.
    """

    def __init__(
        self, ray: Any, run: Run, most: int, trainer: type[Trainer], alone: bool = False
    ) -> None:
        self._ray, self._run, self._most, self._trainer = ray, run, most, trainer
        self._alone = alone
        self._has_gpus = False  # or had: an autoscaler takes them away when they are idle
        self._looked: float | None = None  # whether it has
        self._avoided: frozenset[str] = frozenset()  # nodes without the folder of the search
        self._had_one = False  # whether a place was ever found
        self._notices: list[str] = []
        self._all: list[Place] = []
        self._none_since: float | None = None  # as long as Ray has found no place
        self.why_lost = ""  # of the last place that was lost before Ray had placed it

    @property
    def count(self) -> int:
        """How many Ray has found."""
        return sum(place.node is not None for place in self._all)

    @property
    def busy(self) -> list[Place]:
        """Those that have a job, found or not."""
        return [place for place in self._all if not place.is_free]

    @property
    def waited(self) -> float:
        """For how many seconds places were asked for while Ray has found none; 0 once there is one."""
        return 0.0 if self._none_since is None else time.monotonic() - self._none_since

    @property
    def asked(self) -> dict[str, float]:
        """What a place takes of its node."""
        return needs(self._run, self._has_gpus, self._alone)

    def found(self) -> Place | None:
        """One that Ray has found, free if possible; None as long as there is none."""
        found = [place for place in self._all if place.node is not None]
        return min(found, key=lambda place: not place.is_free, default=None)

    def free(self) -> Place:
        """Where the next job goes: a place that is free, else the first that will be."""
        free = [place for place in self._all if place.is_free]
        found = [place for place in free if place.node is not None]
        return (found or free or [self._new()])[0]

    def tend(self) -> None:
        """Take in which places there are, ask for more, and give back what nobody needs."""
        self._take_in()
        self._look_for_gpus()
        self._change_places()
        free = [place for place in self._all if place.node is not None and place.is_free]
        waiting = [place for place in self.busy if place.node is None]
        for place, other in zip(waiting, free, strict=False):  # the first that was found is taken
            assert place.job is not None
            other.begin(place.job)
            self.drop(place)
        free = free[len(waiting) :]
        if not free:
            while len(self._all) < self._most:
                self._new()
        for place in free[1:]:
            if time.monotonic() - place.idle_since > IDLE_SECONDS:
                self.drop(place)
        if self.count:
            self._none_since, self.why_lost = None, ""
        elif self._none_since is None:
            self._none_since = time.monotonic()

    def notices(self) -> list[str]:
        """What a person should know since this was asked last."""
        found, self._notices = self._notices, []
        return found

    def lose(self, place: Place, error: Exception | None = None) -> None:
        """A place is gone that was free or was still to be found; its job has not begun, and goes to another one.

        Until Ray has noticed that a node is lost, it looks for places there.
        """
        where = f" on node {place.node.name}" if place.node else ""
        logger.info("a place%s is lost", where, exc_info=error)
        if place.node is None and error is not None:
            self.why_lost = reason(error)
        self.drop(place)
        if place.job is not None:
            self.free().begin(place.job)

    def drop(self, place: Place) -> None:
        """Give it back, whatever it does."""
        self._ray.kill(place.actor)
        if place in self._all:  # it may be given back while it is asked something
            self._all.remove(place)

    def drop_all(self) -> None:
        for place in list(self._all):
            self.drop(place)

    def _take_in(self) -> None:
        """Which places Ray has found since, and which free ones are lost."""
        for place in self._ready({place.placed: place for place in self._all if not place.node}):
            try:
                place.node = self._ray.get(place.placed)
            except self._ray.exceptions.RayError as error:
                self.lose(place, error)
                continue
            if place.node.missing:
                self._avoid(place, place.node)
                continue
            self._had_one = True
            place.idle_since = time.monotonic()
            logger.info("there is a place on node %s", place.node.name)
        found = (place for place in self._all if place.node is not None and place.is_free)
        for place in self._ready({place.held: place for place in found}):
            self.lose(place)

    def _look_for_gpus(self) -> None:
        """Whether the cluster has GPUs; looked for once in a while, until it has."""
        now = time.monotonic()
        if self._has_gpus or (self._looked is not None and now - self._looked < GPU_SECONDS):
            return
        self._looked = now
        self._has_gpus = bool(self._ray.cluster_resources().get("GPU"))

    def _change_places(self) -> None:
        """Give back places that are not what is asked for by now: without a GPU, or on any node. Those that train stay.

        A job that waits for such a place waits for a new one.
        """
        asked, old = self.asked, list[Place]()
        for place in self._all:
            if place.node is None:
                changed = (place.asked, place.avoids) != (asked, self._avoided)
            else:
                changed = place.is_free and place.asked != asked
            old += [place] if changed else []
        for place in old:
            logger.info("a place is given back: %s is asked for now", asked)
            self.drop(place)
        for place in old:
            if place.job is not None:
                self._new().begin(place.job)

    def _avoid(self, place: Place, node: Node) -> None:
        """Give back a place on a node without the folder, and ask for no other one there.

        Raises ClusterError where no node that is large enough has it, and none ever had.
        """
        line = f"node {node.name} has no folder {node.missing}"
        if node.id not in self._avoided:
            self._avoided |= {node.id}
            self._notices.append(f"{line}: nothing is trained there; {EVERY_NODE}")
        place.node = None  # it never counted
        self.lose(place)
        self.why_lost = line
        nodes = [one for one in self._ray.nodes() if one["Alive"]]
        large = {one["NodeID"] for one in nodes if room(one["Resources"], self.asked)}
        if large and large <= self._avoided and not self._had_one:
            raise ClusterError(
                f"no node of the cluster has the folder {node.missing}; {EVERY_NODE}"
            )

    def _ready(self, places: dict[Any, Place]) -> list[Place]:
        """Those whose reference has come to something."""
        found, _ = self._ray.wait(list(places), num_returns=max(1, len(places)), timeout=0)
        return [places[reference] for reference in found]

    def _new(self) -> Place:
        """One more actor; Ray starts it once there are its CPUs and GPUs."""
        run, asked = self._run, self.asked
        options: dict[str, Any] = {NAMES[name]: amount for name, amount in asked.items()}
        if self._avoided:
            options["label_selector"] = {NODE_LABEL: f"!in({','.join(sorted(self._avoided))})"}
        # dynafront submits again what is lost, from its checkpoint and with the rungs that are left
        made = self._ray.remote(self._trainer).options(
            max_concurrency=THREADS, max_restarts=0, **options
        )
        actor = made.remote(TrialLimits.of(run), run.gpus, os.getcwd(), verbosity())
        place = Place(actor, actor.node.remote(), actor.hold.remote(), asked, self._avoided)
        self._all.append(place)
        return place
