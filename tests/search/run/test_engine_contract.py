"""What every engine promises: a new one adds a line to ENGINES."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from search.run.engine import Engine, InProcess
from search.run.job import Failure, Job, Outcome, Rung
from search.run.local_processes import LocalProcesses
from search.run.watch import family_of
from search.study_parts import Run
from tests.search.run.jobs import drained, job, kinds
from trainers.data.splits import DataSpec
from trainers.fit import EpochResult

ENGINES: dict[str, Callable[[], Engine]] = {
    "in process": InProcess,
    "worker processes": lambda: LocalProcesses(2),
    "fused": lambda: LocalProcesses(1, fused=3),
}
RAY = "ray"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def on_ray() -> Iterator[Engine]:
    """One for all tests: a cluster takes seconds to start, and so does a place for a training."""
    pytest.importorskip("ray")
    from search.run.ray_engine import RayEngine
    from tests.search.run.ray_nodes import cluster

    with cluster(cpus=1) as nodes:
        made = RayEngine(Run(engine="ray", address=nodes.address), 1)
        yield made
        made.close()


@pytest.fixture(params=[*ENGINES, RAY])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == RAY:
        yield request.getfixturevalue("on_ray")
        return
    made = ENGINES[request.param]()
    yield made
    made.close()


def started(engine: Engine) -> list[psutil.Process]:
    """The processes that train for an engine now, and those that they have started."""
    if isinstance(engine, LocalProcesses):
        own = [p.pid for p in multiprocessing.active_children() if p.name.startswith("worker-")]
        return [process for pid in own for process in family_of(pid)]
    if isinstance(engine, InProcess):
        return []
    from tests.search.run.ray_nodes import trainers

    address = engine._run.address  # type: ignore[attr-defined]
    return [process for one in trainers(address) for process in family_of(one.pid)]


def missing(folder: Path) -> Job:
    return replace(job(folder), data=DataSpec(source=f"folder:{folder / 'nowhere'}"))


def test_an_engine_without_jobs_has_nothing_to_say(engine: Engine) -> None:
    assert engine.slots >= 1
    assert engine.next_event(0.05) is None


def test_every_slot_takes_a_job_and_the_events_of_each_come_in_order(
    tmp_path: Path, engine: Engine
) -> None:
    jobs = [job(tmp_path, number=number) for number in range(engine.slots)]
    for one in jobs:
        engine.submit(one)
    found = drained(engine, len(jobs))
    for one in jobs:
        mine = [event for its, event in found if its == one]
        assert [type(event) for event in mine] == [EpochResult, EpochResult, Outcome]
        assert [event.epoch for event in mine if isinstance(event, EpochResult)] == [1, 2]
    assert engine.next_event(0.05) is None, "an Outcome is the last that is said of a job"


def test_every_engine_trains_to_the_same_bits(tmp_path: Path, engine: Engine) -> None:
    here = InProcess()
    here.submit(job(tmp_path / "here"))
    engine.submit(job(tmp_path / "there"))
    (ours, theirs) = (drained(one, 1)[-1][1] for one in (here, engine))
    assert isinstance(ours, Outcome)
    assert isinstance(theirs, Outcome)
    assert ours.points == theirs.points


def test_a_training_waits_at_its_rung_for_the_answer(tmp_path: Path, engine: Engine) -> None:
    one = replace(job(tmp_path), rungs=(1,))
    engine.submit(one)
    assert kinds(drained(engine, 1)) == [EpochResult, Rung]
    assert engine.next_event(1.0) is None, "two epochs take less"
    engine.answer(one, True)
    assert kinds(drained(engine, 1)) == [EpochResult, Outcome]


def test_a_training_that_is_stopped_frees_its_slot_and_says_no_more(
    tmp_path: Path, engine: Engine
) -> None:
    one = replace(job(tmp_path), rungs=(1,))
    engine.submit(one)
    drained(engine, 1)
    engine.answer(one, False)
    assert engine.next_event(0.2) is None
    for number in range(1, engine.slots + 1):
        engine.submit(job(tmp_path, number=number))
    rest = drained(engine, engine.slots)
    assert {its.number for its, _ in rest} == set(range(1, engine.slots + 1))
    assert kinds(rest).count(Outcome) == engine.slots
    engine.submit(replace(one, rungs=()))
    assert [e.epoch for _, e in drained(engine, 1) if isinstance(e, EpochResult)] == [1, 2], (
        "from its checkpoint"
    )


def test_a_job_that_cannot_be_trained_fails_with_one_line_and_the_next_is_trained(
    tmp_path: Path, engine: Engine
) -> None:
    engine.submit(missing(tmp_path))
    ((_, failure),) = drained(engine, 1)
    assert isinstance(failure, Failure)
    assert "nowhere" in failure.error
    assert len(failure.error.splitlines()) == 1
    assert not failure.crashed
    assert "Traceback" in failure.trace
    engine.submit(job(tmp_path))
    assert kinds(drained(engine, 1)) == [EpochResult, EpochResult, Outcome]


def test_a_closed_engine_leaves_no_process_and_its_checkpoints(
    tmp_path: Path, engine: Engine
) -> None:
    engine.submit(job(tmp_path, epochs=40))
    first = None
    while first is None:
        first = engine.next_event(60)
    assert isinstance(first[1], EpochResult)
    begun = started(engine)
    assert begun or isinstance(engine, InProcess), "a process trains"
    engine.close()
    assert not [p for p in multiprocessing.active_children() if p.name.startswith("worker-")]
    _, alive = psutil.wait_procs(begun, timeout=30)
    assert not alive
    assert list(tmp_path.rglob("*.safetensors"))
