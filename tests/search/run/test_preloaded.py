"""Workers are forks of a process that has imported what they need: what they take over, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from search.run.job import Failure
from search.run.local_processes import LocalProcesses
from search.run.worker_process import workers_context
from tests.search.run.jobs import drained, job
from trainers.data.splits import DataSpec

ROOT = Path(__file__).parents[3]
DRIVER = """
import sys
from pathlib import Path
from search.run.local_processes import LocalProcesses
from tests.search.run.jobs import job

engine = LocalProcesses(1)
engine.submit(job(Path(sys.argv[1]), epochs=100_000))
while engine.next_event(60) is None:
    pass
print(engine._workers[0].process.pid, flush=True)
while True:
    engine.next_event(1)
"""
IMPORT = """
import os, time
print(os.getpid(), flush=True)
while True:
    time.sleep(0.1)
"""
STARTER = """
from trainers.data.processes import forked_from_server
forked_from_server(["endless"])
__import__("time").sleep(60)
"""


def check_ended(*processes: psutil.Process) -> None:
    """They end within 20 seconds."""
    _, left = psutil.wait_procs(processes, 20)
    for one in left:
        one.kill()
    assert not left


def tell(pipe: Connection) -> None:
    import torch

    began = sorted(sys.modules)
    pipe.send((torch.cuda._is_in_bad_fork(), torch.cuda.is_initialized(), began))


@pytest.mark.slow
def test_a_fork_has_what_it_needs_and_can_use_a_gpu() -> None:
    context = workers_context()
    here, there = context.Pipe()
    process = context.Process(target=tell, args=(there,))  # type: ignore[attr-defined]
    process.start()
    bad, used, modules = here.recv()
    process.join()
    assert not bad, "somebody asked a GPU for something in the process that this is a fork of"
    assert not used
    assert {"search.measure.operating_points", "torch._dynamo", "spaces.families.skip_vit"} <= set(
        modules
    )


@pytest.mark.slow
def test_a_worker_that_hangs_and_the_process_that_it_is_a_fork_of_end_with_the_driver(
    tmp_path: Path,
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert driver.stdout is not None
    worker = psutil.Process(int(driver.stdout.readline()))
    server = worker.parent()
    assert server is not None
    assert server.pid != driver.pid
    worker.suspend()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    check_ended(worker, server)


def test_the_process_that_workers_are_forks_of_ends_with_the_driver_while_it_imports(
    tmp_path: Path,
) -> None:
    (tmp_path / "endless.py").write_text(IMPORT)
    driver = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        cwd=tmp_path,
    )
    assert driver.stdout is not None
    server = psutil.Process(int(driver.stdout.readline()))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    check_ended(server)


@pytest.mark.slow
def test_workers_have_the_environment_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers_context()  # the process that they are forks of has the one of now
    monkeypatch.setenv("DYNAFRONT_MOMENT", str(tmp_path / "later"))
    engine = LocalProcesses(1)
    try:
        images = DataSpec(source="folder:$DYNAFRONT_MOMENT")
        engine.submit(replace(job(tmp_path), data=images))
        ((_, failure),) = drained(engine, 1)
    finally:
        engine.close()
    assert isinstance(failure, Failure)
    assert str(tmp_path / "later") in failure.error
