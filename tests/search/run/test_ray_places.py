"""Places on a cluster that come, go and are lost, on a Ray made by hand: what is asked of it, and where jobs go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("ray")
from ray import exceptions
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
)

from search.run import ray_engine, ray_places
from search.run.giving_up import TimeIsOverError
from search.run.job import Failure
from search.run.ray_cluster import ClusterError
from search.run.ray_engine import RayEngine
from search.run.ray_places import NODE_LABEL, Place, Places
from search.run.ray_trainer import Node, Trainer
from search.study_parts import Run
from tests.search.run.jobs import job


class Reference:
    """Comes to `value` once that is set; an exception is raised by whoever gets it."""

    def __init__(self) -> None:
        self.value: Any = None


class Actor:
    """Remembers what was begun on it."""

    def __init__(self) -> None:
        self.references: dict[str, Reference] = {}
        self.begun: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Reference:
            self.begun += arguments if name == "train" else ()
            return self.references.setdefault(name, Reference())

        return SimpleNamespace(remote=remote, options=lambda **_: SimpleNamespace(remote=remote))


class Ray:
    """What `Places` uses of Ray."""

    exceptions = exceptions

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.asked: list[dict[str, Any]] = []
        self.killed: list[Actor] = []
        self.machines: list[str] = []
        self.resources: dict[str, float] = {"CPU": 8, "GPU": 1}

    def remote(self, trainer: type) -> Any:
        def options(**values: Any) -> Any:
            self.asked.append(values)
            return SimpleNamespace(remote=self._made)

        return SimpleNamespace(options=options)

    def _made(self, *arguments: Any) -> Actor:
        self.actors.append(Actor())
        return self.actors[-1]

    def wait(
        self, references: list[Reference], **_: Any
    ) -> tuple[list[Reference], list[Reference]]:
        return [one for one in references if one.value is not None], []

    def get(self, reference: Reference) -> Any:
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor)

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": one, "Alive": True, "Resources": {"CPU": 8}} for one in self.machines]

    def find(self, number: int, missing: str = "") -> Actor:
        """Ray finds room for the actor with this number."""
        actor = self.actors[number]
        actor.references["node"].value = Node(f"id{number}", f"node{number}", missing)
        return actor


@pytest.fixture
def ray() -> Ray:
    return Ray()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the clock shows, one number that a test changes."""
    shown = [0.0]
    monkeypatch.setattr(ray_places.time, "monotonic", lambda: shown[0])
    return shown


def places(ray: Ray, most: int, **run: Any) -> Places:
    made = Places(ray, Run(engine="ray", **run), most, Trainer)
    made.tend()
    return made


def begin(made: Places, folder: Path, number: int) -> Place:
    place = made.free()
    place.begin(job(folder, number))
    return place


def test_as_many_are_asked_for_as_are_wanted_with_what_a_trial_takes(ray: Ray) -> None:
    made = places(ray, 3, gpus_per_trial=0.5, cpus_per_trial=2, memory_gigabytes=4.0)
    assert len(ray.asked) == 3
    assert ray.asked[0] == {
        "num_cpus": 2,
        "num_gpus": 0.5,
        "memory": 4_000_000_000,
        "max_concurrency": 4,
        "max_restarts": 0,
    }
    assert made.count == 0
    ray.find(1)
    made.tend()
    assert made.count == 1


def test_places_without_a_gpu_are_asked_for_anew_once_the_cluster_has_one(
    ray: Ray, tmp_path: Path, now: list[float]
) -> None:
    ray.resources = {"CPU": 8}
    made = places(ray, 4)
    assert all("num_gpus" not in one for one in ray.asked)
    ray.find(0)
    made.tend()
    trains = begin(made, tmp_path, 0)
    waits, idle = begin(made, tmp_path, 1), ray.find(2)
    now[0] += ray_places.GPU_SECONDS
    made.tend()
    assert waits.actor in ray.killed, "the idle one has its job"
    assert [one.number for one in idle.begun] == [1]
    begin(made, tmp_path, 2)
    ray.resources = {"CPU": 8, "GPU": 1}
    begun = len(ray.asked)
    now[0] += ray_places.GPU_SECONDS
    made.tend()
    assert trains.job is not None, "what trains goes on where it is"
    assert trains.actor not in ray.killed
    assert [one["num_gpus"] for one in ray.asked[begun:]] == [1, 1], "the other two are replaced"
    assert [one.number for actor in ray.actors[begun:] for one in actor.begun] == [2]
    trains.end()
    made.tend()
    assert trains.actor in ray.killed, "once it trains nothing"
    assert len(made.busy) == 2
    ray.resources = {"CPU": 8}
    now[0] += ray_places.GPU_SECONDS
    made.tend()
    assert made.asked["GPU"] == 1, "an autoscaler has taken it away, and brings it back"


def test_without_a_gpu_the_cluster_is_not_asked_at_every_event(
    ray: Ray, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list[float]()

    def cluster_resources() -> dict[str, float]:
        looks.append(now[0])
        return {"CPU": 8}

    monkeypatch.setattr(ray, "cluster_resources", cluster_resources)
    made = places(ray, 1)
    for second in range(1, 12):
        now[0] = second
        made.tend()
    assert looks == [0, 5, 10]


def test_a_job_goes_to_the_place_that_is_found_first(ray: Ray, tmp_path: Path) -> None:
    made = places(ray, 2)
    waiting = begin(made, tmp_path, 0)
    found = ray.find(1)
    made.tend()
    assert [one.number for one in found.begun] == [0]
    assert ray.killed == [waiting.actor], "nobody trains it twice"
    assert len(made.busy) == 1


def test_a_job_whose_place_is_lost_before_it_is_found_goes_to_another(
    ray: Ray, tmp_path: Path
) -> None:
    made = places(ray, 1)
    begin(made, tmp_path, 0)
    ray.actors[0].references["node"].value = RayError("its node has died")
    made.tend()
    assert [one.number for one in ray.actors[1].begun] == [0]
    assert ray.killed == [ray.actors[0]]


def test_a_node_without_the_folder_gets_no_trainings_and_they_go_elsewhere(
    ray: Ray, tmp_path: Path
) -> None:
    ray.machines, ray.resources = ["id0", "other"], {"CPU": 16}
    made = places(ray, 3, device="cpu")
    waiting = begin(made, tmp_path, 0)
    ray.find(0, missing="/work")
    made.tend()
    assert waiting.actor in ray.killed
    assert made.count == 0
    assert made.notices() == [
        "node node0 has no folder /work: nothing is trained there; every node must reach the folder of the "
        "search under the same path"
    ]
    assert made.notices() == [], "once"
    assert len(ray.killed) == 3, "those that wait may have come there too"
    assert [one.get("label_selector") for one in ray.asked[-3:]] == [{NODE_LABEL: "!in(id0)"}] * 3
    assert [one.number for actor in ray.actors[-3:] for one in actor.begun] == [0]
    assert made.why_lost == "node node0 has no folder /work"
    ray.find(len(ray.actors) - 1)
    made.tend()
    assert (made.count, made.why_lost) == (1, "")
    ray.machines = ["id0"]
    ray.find(len(ray.actors) - 2, missing="/work")
    made.tend()  # what was elsewhere may come back


def test_where_no_node_has_the_folder_one_line_says_so(ray: Ray, tmp_path: Path) -> None:
    ray.machines, ray.resources = ["id0", "id3"], {"CPU": 16}
    made = places(ray, 2, device="cpu")
    begin(made, tmp_path, 0)
    ray.find(0, missing="/work")
    made.tend()
    ray.find(3, missing="/work")
    with pytest.raises(ClusterError, match=r"^no node of the cluster has the folder /work; every"):
        made.tend()


def test_a_free_place_that_is_lost_gets_no_job(ray: Ray, tmp_path: Path) -> None:
    made = places(ray, 2)
    ray.find(0)
    ray.find(1)
    made.tend()
    ray.actors[0].references["hold"].value = RayError("its node has died")
    made.tend()
    assert begin(made, tmp_path, 0).actor is ray.actors[1]
    assert made.count == 1
    made.tend()
    assert len(ray.actors) == 3, "one more is asked for once none is free"


def test_places_that_are_free_for_long_are_given_back_all_but_one(
    ray: Ray, tmp_path: Path, now: list[float]
) -> None:
    made = places(ray, 4)
    for number in range(4):
        ray.find(number)
    made.tend()
    begin(made, tmp_path, 0)
    now[0] = ray_places.IDLE_SECONDS - 1
    made.tend()
    assert made.count == 4
    now[0] += 2
    made.tend()
    assert made.count == 2, "one that trains, and one that is free"
    assert len(ray.actors) == 4, "nothing is asked for as long as one is free"
    begin(made, tmp_path, 1)
    made.tend()
    assert len(ray.actors) == 6


@pytest.mark.parametrize(
    ("raised", "error", "memory"),
    [
        (RayError("The actor died because its node has died."), "its node here is lost", False),
        (NodeDiedError("it does not answer"), "its node here is lost", False),
        (RayError("RPC error: Socket closed"), "its process on node here is lost", False),
        (ActorDiedError(), "its process on node here is lost", False),
        (
            RayError("the node was running low on memory"),
            "ended by Ray, for the node ran out of memory",
            True,
        ),
        (
            OutOfMemoryError("1 worker(s) were killed"),
            "ended by Ray, for the node ran out of memory",
            True,
        ),
    ],
)
def test_what_is_said_of_a_training_whose_place_is_lost(
    raised: Exception, error: str, memory: bool
) -> None:
    place = Place(None, None, None, node=Node("id", "here"), epoch=3)
    failure = place.death(raised)
    assert error in failure.error
    assert (failure.crashed, failure.memory, failure.epoch) == (True, memory, 4)
    assert failure.lost is not memory, "what is not the training's doing speaks not against it"


def test_how_long_no_place_was_found_is_known_and_why_one_was_lost(
    ray: Ray, now: list[float]
) -> None:
    now[0] = 100.0
    made = places(ray, 1)
    assert made.waited == 0
    now[0] += 30
    made.tend()
    assert made.waited == 30
    ray.actors[0].references["node"].value = RayError("No module named 'ray'\n  a traceback")
    made.tend()
    assert (made.waited, made.why_lost) == (30, "No module named 'ray'")
    assert made.found() is None
    ray.find(1)
    made.tend()
    assert made.waited == 0
    ray.actors[1].references["hold"].value = RayError("its node has died")
    now[0] += 30
    made.tend()
    now[0] += 5
    made.tend()
    assert made.waited == 5, "counted from when the last one was lost"


def test_a_busy_place_is_better_than_none_to_ask_something(ray: Ray, tmp_path: Path) -> None:
    """One that Ray has not found may never be: a search that waited for it would hear of no training any more."""
    made = places(ray, 2)
    ray.find(0)
    made.tend()
    busy = begin(made, tmp_path, 0)
    assert made.free().node is None
    assert made.found() is busy
    ray.find(1)
    made.tend()
    free = made.found()
    assert free is not None
    assert free is not busy


def test_a_search_says_what_it_waits_for_after_a_minute_then_after_twice_as_long(
    ray: Ray, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    monkeypatch.setattr(ray_engine, "waiting_text", lambda ray, run, waited, why: f"{waited:.0f}")
    engine = RayEngine(Run(engine="ray", max_trials=1), 1)
    cluster = cast(Any, SimpleNamespace(ray=ray, check=lambda: None))
    engine._opened = cluster, Places(ray, Run(engine="ray"), 1, Trainer)
    engine.say_on(said.append)
    for second in range(300):
        now[0] = float(second)
        assert engine.slots == 1
    assert said == ["60", "120", "240"]
    ray.find(0)
    assert engine.found_place().node is not None
    ray.actors[0].references["hold"].value = RayError("its node has died")
    for second in range(300, 370):
        now[0] = float(second)
        engine.slots  # noqa: B018 - to look is to tend
    assert said == ["60", "120", "240", "60"], "from the start for the next wait"


@pytest.mark.parametrize(
    "raised",
    [
        RayError("its node has died"),
        OutOfMemoryError("1 worker(s) were killed"),
        NodeDiedError("it does not answer"),
        ActorDiedError(),
        ActorUnavailableError("Socket closed", None),
    ],
)
def test_a_training_whose_place_is_lost_when_it_is_asked_something_is_told_as_lost(
    ray: Ray, tmp_path: Path, raised: Exception
) -> None:
    engine = RayEngine(Run(engine="ray", max_trials=1), 1)
    made = places(ray, 1)
    engine._opened = cast(Any, (SimpleNamespace(ray=ray, check=lambda: None), made))
    ray.find(0)
    made.tend()
    trained = begin(made, tmp_path, 0).job
    place = engine.found_place()
    assert place.job == trained
    ray.actors[0].references["device"] = Reference()
    ray.actors[0].references["device"].value = raised
    assert engine.ask(place, "device", "auto") is None
    job, failure = engine.next_event(0) or pytest.fail("nothing was told")
    assert (job, isinstance(failure, Failure)) == (trained, True)
    assert not made.busy
    assert failure.memory is isinstance(raised, OutOfMemoryError)


def test_what_a_place_itself_raises_when_it_is_asked_something_is_no_loss(ray: Ray) -> None:
    engine = RayEngine(Run(engine="ray", max_trials=1), 1)
    made = places(ray, 1)
    engine._opened = cast(Any, (SimpleNamespace(ray=ray, check=lambda: None), made))
    ray.find(0)
    place = engine.found_place()
    ray.actors[0].references["device"] = Reference()
    error = RayTaskError("device", "a traceback", KeyError("auto"), proctitle="", ip="1.2.3.4")
    ray.actors[0].references["device"].value = error
    with pytest.raises(RayTaskError, match="a traceback"):
        engine.ask(place, "device", "auto")
    assert ray.killed == []


def test_a_wait_for_any_place_asks_whether_it_may_go_on(ray: Ray) -> None:
    engine = RayEngine(Run(engine="ray", max_trials=1), 1)
    made = places(ray, 1)
    engine._opened = cast(Any, (SimpleNamespace(ray=ray, check=lambda: None), made))
    asked = list[int]()

    def check() -> None:
        asked.append(1)
        if len(asked) == 3:
            ray.find(0)
        if len(asked) > 3:
            raise TimeIsOverError

    assert engine.found_place(check) is made.found()
    made.drop_all()
    with pytest.raises(TimeIsOverError):
        engine.found_place(check)
