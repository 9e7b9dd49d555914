"""Trials on Ray clusters of several nodes, some of which are lost; and whole searches that lose their cluster."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.crashes import STUDY, differences, known, new_folder
from benchmarks.launcher import LOG, Launcher, Search
from search.run import ray_cluster
from search.run.engine import InProcess, engine_for
from search.run.job import Failure, Outcome, Rung
from search.run.ray_cluster import UV, ClusterError, address_of
from search.run.ray_trainer import NOT_SET, see_own_gpus
from search.study_parts import Run
from tests.search.run.jobs import drained, job, kinds
from trainers.fit import EpochResult

pytest.importorskip("ray")
from search.run.ray_engine import RayEngine
from tests.search.run.ray_nodes import (
    ASKED_FOR,
    Homeless,
    RayNodes,
    cluster,
    free_ports,
    minutes,
    trainers,
)

SMALL = STUDY.replace(
    "trials: 3, epochs: 6, warm_epochs: 3", "trials: 2, epochs: 4, warm_epochs: 2"
)
QUICKLY = "import search.run.ray_cluster as c; c.CHECK_SECONDS, c.LOST_SECONDS = 0.5, 2.0"


def until(seconds: float, what: str, is_so: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_a_cluster_is_named_found_or_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert address_of("head:6379") == "head:6379"
    assert address_of("local") is None
    assert address_of("auto") is None
    (port,) = free_ports(1)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}\n")
    assert address_of("auto") is None, "nothing answers there: its cluster was killed"
    with socket.create_server(("127.0.0.1", port)):
        assert address_of("auto") == f"127.0.0.1:{port}"
        if sys.platform == "linux":
            monkeypatch.delenv("RAY_TMPDIR")
            monkeypatch.setenv("TMPDIR", str(tmp_path))
            assert address_of("auto") == f"127.0.0.1:{port}", "as `ray start` has it"
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    assert address_of("auto") == "other:6379"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert address_of("auto") is None, "as without it"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert address_of("auto") is None


@pytest.mark.parametrize(
    ("named", "what"), [("ray://head:10001", "proxy"), ("http://head:8265", "dashboard")]
)
def test_a_variable_that_is_for_programs_outside_of_a_cluster_is_named(
    monkeypatch: pytest.MonkeyPatch, named: str, what: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", named)
    with pytest.raises(
        ValueError, match=f"RAY_ADDRESS: {named} is Ray's {what} for programs outside"
    ):
        address_of("auto")
    assert address_of("head:6379") == "head:6379"


@pytest.mark.parametrize(
    ("ids", "forbidden", "seen"),
    [
        ([], False, ""),
        ([2], False, "2"),
        ([2], True, "2"),
        (["GPU-a", "GPU-b"], True, "GPU-a,GPU-b"),
    ],
)
def test_a_process_sees_the_gpus_that_ray_has_given_it(
    monkeypatch: pytest.MonkeyPatch, ids: list[int | str], forbidden: bool, seen: str
) -> None:
    """Those of its node, which Ray narrows down unless a variable forbids it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3" if forbidden else "2")
    monkeypatch.delenv(NOT_SET, raising=False)
    if forbidden:
        monkeypatch.setenv(NOT_SET, "1")
    see_own_gpus(ids)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    engine = engine_for(1, Run(engine="ray", address=address), 4)
    with pytest.raises(ClusterError, match=rf"run\.address: nothing answers at {address}; start"):
        engine.open(lambda line: None)
    engine.close()


def test_below_uv_run_a_node_uses_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Ray was imported before, as by a notebook: else no training would ever find a place."""
    from ray._private import ray_constants, worker
    from ray._private.runtime_env import uv_runtime_env_hook

    monkeypatch.setattr(uv_runtime_env_hook, "_get_uv_run_cmdline", lambda: ["uv", "run", "python"])
    monkeypatch.setattr(ray_constants, UV, True)
    monkeypatch.delenv(UV, raising=False)
    assert worker._maybe_modify_runtime_env({}, False) != {}, "what Ray does unasked"
    ray_cluster._quiet_ray()
    assert worker._maybe_modify_runtime_env({}, False) == {}
    monkeypatch.setenv(UV, "1")
    ray_cluster._quiet_ray()
    assert worker._maybe_modify_runtime_env({}, False) != {}, "somebody has asked for it"


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.run.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"run\.engine: ray is not installed: pip install 'dyn"):
        engine_for(1, Run(engine="ray"))


def test_a_cluster_that_does_not_start_skips_no_test_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(cpus: int) -> None:
        raise RuntimeError("no raylet")

    monkeypatch.setattr("tests.search.run.ray_nodes.RayNodes", fails)
    monkeypatch.delenv(ASKED_FOR, raising=False)
    with pytest.raises(pytest.skip.Exception, match="Ray does not start here"), cluster(1):
        pass
    monkeypatch.setenv(ASKED_FOR, "1")
    with pytest.raises(RuntimeError, match="no raylet"), cluster(1):
        pass


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    with cluster(cpus=0) as made:
        yield made


@minutes
@pytest.mark.slow
def test_a_training_goes_on_where_a_node_was_added_after_its_own_was_lost(
    tmp_path: Path, nodes: RayNodes
) -> None:
    first = nodes.add(cpus=1)
    engine = RayEngine(Run(engine="ray", address=nodes.address), 2)
    one = replace(job(tmp_path / "there", epochs=4), rungs=(2,))
    try:
        engine.submit(one)
        assert kinds(drained(engine, 1)) == [EpochResult, EpochResult, Rung]
        nodes.kill(first)
        ((lost, failure),) = drained(engine, 1)
        assert lost == one
        assert isinstance(failure, Failure)
        assert (failure.crashed, failure.lost, failure.epoch) == (True, True, 3)
        assert "is lost" in failure.error
        engine.submit(replace(one, rungs=(), reached=2))
        assert engine.next_event(0.5) is None, "there is no node"
        late = nodes.add(cpus=1)
        found = [event for _, event in drained(engine, 1)]
        epochs = [event.epoch for event in found if isinstance(event, EpochResult)]
        assert epochs == [2, 3, 4], "from its checkpoint"
    finally:
        engine.close()
    nodes.kill(late)
    here = InProcess()
    here.submit(job(tmp_path / "here", epochs=4))
    (ours, theirs) = (drained(here, 1)[-1][1], found[-1])
    assert isinstance(ours, Outcome)
    assert isinstance(theirs, Outcome)
    assert ours.points == theirs.points
    until(20, "actors are left", lambda: not trainers(nodes.address))


@minutes
@pytest.mark.slow
def test_where_a_node_lacks_the_folder_trainings_go_to_the_others(
    tmp_path: Path, nodes: RayNodes
) -> None:
    without = nodes.add(cpus=4, env_vars={Homeless.VARIABLE: "1"})
    whole = nodes.add(cpus=1)
    engine, said = RayEngine(Run(engine="ray", address=nodes.address), 2, Homeless), list[str]()
    engine.say_on(said.append)
    try:
        for number in (0, 1):
            engine.submit(job(tmp_path, number))
        assert kinds(drained(engine, 2)).count(Outcome) == 2
    finally:
        engine.close()
        nodes.kill(without)
        nodes.kill(whole)
    (line,) = [one for one in said if "has no folder /no/such/folder" in one]
    assert "every node must reach the folder of the search under the same path" in line


def begun(search: Search) -> bool:
    """Whether a training of the search has finished an epoch."""
    assert search.ended(0.1) in (None, 0), (search.folder / LOG).read_text()
    return bool(list(search.folder.rglob("*.safetensors")))


@minutes
@pytest.mark.slow
def test_a_search_that_lost_its_driver_then_its_cluster_ends_as_one_in_this_process(
    tmp_path: Path, nodes: RayNodes
) -> None:
    whole, folder = (new_folder(tmp_path, name, SMALL) for name in ("whole", "killed"))
    place = f"run: {{engine: ray, address: '{nodes.address}', max_trials: 1, precision: float32}}"
    nodes.add(cpus=1)
    (folder / "study.yml").write_text(SMALL.replace("run: {precision: float32, threads: 1}", place))
    with Launcher() as launcher:
        assert launcher.search(whole, "--workers", "0").ended(600) == 0
        first = launcher.search(folder)
        until(300, "nothing is trained", lambda: begun(first))
        first.kill()
        until(30, "actors outlive their driver", lambda: not trainers(nodes.address))
        second = launcher.search(folder, before=QUICKLY)
        until(300, "no actor", lambda: second.ended(0.1) is None and trainers(nodes.address))
        nodes.kill(nodes.head)
        assert second.ended(120) == 1
        said = (folder / LOG).read_text()
        assert said.rstrip().endswith("is gone; once there is one, search again to go on"), said
        assert "Traceback" not in said
        third = launcher.search(folder, "--engine", "local")
        assert third.ended(600) == 0, (folder / LOG).read_text()
    # a node waits a minute for its head before it gives up
    until(120, "processes outlive their cluster", lambda: not trainers(nodes.address))
    assert "\n".join(differences(folder, known(whole))) == ""
