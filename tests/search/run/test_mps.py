"""NVIDIA's MPS, made up: a script in place of its program writes down what it is called with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import search.run.engine as engine_module
from search.run.engine import engine_for
from search.run.gpu_memory import USUAL
from search.run.job import Failure, Outcome
from search.run.local_processes import LocalProcesses, is_gpu_fault
from search.run.mps import CONTROL, LOGS, MOST_CLIENTS, NOWHERE, PIPES, Mps
from search.study_parts import Run
from tests.search.run.gpus import Machine as Gpus
from tests.search.run.jobs import drained, job

# a daemon answers where there is a file `daemon` in its folder
SCRIPT = """#!/bin/sh
folder="${{CUDA_MPS_PIPE_DIRECTORY:-{usual}}}"
if [ "$1" = "-d" ]; then
  echo "start ${{CUDA_VISIBLE_DEVICES-all}} $folder $CUDA_MPS_LOG_DIRECTORY" >> {log}
  if [ -e {broken} ]; then echo "no GPU for this" >&2; exit 1; fi
  touch "$folder/daemon"
  exit 0
fi
read command
if [ ! -e "$folder/daemon" ]; then echo "Cannot find MPS control daemon process"; exit 1; fi
echo "$command $folder" >> {log}
if [ "$command" = quit ]; then rm "$folder/daemon"; fi
"""


@dataclass
class Machine:
    """One whose `nvidia-cuda-mps-control` is a script; `usual` is where a daemon of somebody else would be."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        self.usual, self.log, self.broken = (
            self.folder / name for name in ("usual", "log", "broken")
        )
        self.usual.mkdir()
        script = self.folder / "bin" / CONTROL
        script.write_text(SCRIPT.format(usual=self.usual, log=self.log, broken=self.broken))
        script.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    for name in (PIPES, LOGS):
        monkeypatch.delenv(name, raising=False)
    return found


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def silent(line: str) -> None:
    pytest.fail(f"nothing was to be said: {line}")


def test_a_search_has_a_daemon_of_its_own_and_ends_it(machine: Machine) -> None:
    mps = Mps()
    mps.start(4, silent)
    assert mps.active
    pipes, logs = os.environ[PIPES], os.environ[LOGS]
    assert machine.calls == [f"start all {pipes} {logs}"], "it sees all GPUs: clients know theirs"
    assert Path(pipes).is_dir()
    assert Path(logs).is_dir()
    mps.close()
    assert not mps.active
    assert machine.calls[1:] == [f"quit {pipes}"]
    assert PIPES not in os.environ
    assert LOGS not in os.environ
    assert not Path(pipes).parent.exists()


def test_a_daemon_that_answers_is_used_and_left_alone(machine: Machine) -> None:
    (machine.usual / "daemon").touch()
    mps = Mps()
    mps.start(4, silent)
    assert mps.active
    assert PIPES not in os.environ
    mps.leave()
    assert os.environ[PIPES] == NOWHERE, "new processes find no daemon"
    mps.close()
    assert PIPES not in os.environ
    assert machine.calls == [f"get_server_list {machine.usual}"]
    assert (machine.usual / "daemon").exists()


def test_one_that_does_not_start_is_said_and_trainings_go_on_without(machine: Machine) -> None:
    machine.broken.touch()
    said: list[str] = []
    mps = Mps()
    mps.start(4, said.append)
    assert not mps.active
    assert PIPES not in os.environ
    assert said == [
        "NVIDIA's MPS does not start, so trainings share GPUs without it: no GPU for this"
    ]
    mps.close()


def test_a_machine_without_it_and_more_processes_than_it_serves_do_without(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    mps = Mps()
    mps.start(MOST_CLIENTS, silent)
    monkeypatch.setenv("PATH", "/nonexistent")
    mps.start(4, silent)
    assert not mps.active
    assert machine.calls == []
    mps.close()


@pytest.mark.parametrize("visible", ["MIG-3f2a", "GPU-3f2a, MIG-3f2b"])
def test_parts_of_a_gpu_have_no_daemon_of_a_search_but_may_have_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    mps = Mps()
    mps.start(4, silent)
    assert not mps.active
    assert machine.calls == []
    (machine.usual / "daemon").touch()
    mps.start(4, silent)
    assert mps.active, "whoever started it has shown it that part"
    mps.close()


KILLED = """
import sys, time
from search.run.mps import Mps
mps = Mps()
mps.start(4, print)
print("started", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_however_a_search_ends_its_daemon_ends_too(machine: Machine, how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as search:
        assert search.stdout is not None
        assert search.stdout.readline() == b"started\n"
        os.killpg(search.pid, how)  # Ctrl-C reaches all of a terminal's processes
    folder = machine.calls[0].split()[2]
    until(lambda: machine.calls[1:] == [f"quit {folder}"])
    until(lambda: not Path(folder).parent.exists())


@pytest.mark.parametrize(
    ("workers", "run", "calls"),
    [(3, Run(), 1), (2, Run(), 0), (3, Run(mps="off"), 0), (3, Run(device="cpu"), 0)],
)
def test_it_runs_where_workers_share_gpus_and_the_file_does_not_turn_it_off(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, workers: int, run: Run, calls: int
) -> None:
    monkeypatch.setattr(engine_module, "gpus_found", lambda: 2)
    engine = engine_for(workers, run)
    try:
        assert machine.calls == [], "not before the search is open"
        engine.open(silent)
        assert len(machine.calls) == calls
    finally:
        engine.close()
    assert len(machine.calls) == 2 * calls


@pytest.mark.slow
def test_after_a_worker_ended_badly_new_ones_do_without_and_idle_ones_are_replaced(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, said = LocalProcesses(2, mps=Mps()), list[str]()
    engine.open(silent)
    engine.say_on(said.append)
    one = replace(job(tmp_path, epochs=1), device="cpu")
    try:
        engine.submit(one)
        drained(engine, 1)  # the first worker is idle
        engine.submit(one)
        engine.submit(replace(job(tmp_path, 1, epochs=400), device="cpu"))
        drained(engine, 1)
        idle, dying = engine._workers
        assert idle is not None
        assert dying is not None
        assert (idle.under_mps, dying.under_mps) == (True, True)
        os.kill(dying.process.pid or 0, signal.SIGSEGV)
        *_, (_, death) = drained(engine, 1)
        assert isinstance(death, Failure)
        assert death.crashed
        assert said == ["a training ended badly under NVIDIA's MPS; the search goes on without it"]
        engine.submit(replace(one, number=2, key="s/search-0002"))
        new = engine._workers[0]
        assert new is not None
        assert new is not idle
        assert not new.under_mps
        assert isinstance(drained(engine, 1)[-1][1], Outcome)
        assert len(machine.calls) == 1, "its daemon stays for those that are its clients"
    finally:
        engine.close()
    assert machine.calls[1].startswith("quit ")


@pytest.mark.slow
def test_what_measures_ends_when_mps_is_left_and_before_its_daemon_ends(
    machine: Machine, tmp_path: Path
) -> None:
    room, ended = Gpus().room(), list[int]()
    engine = LocalProcesses(1, room=room, mps=Mps())
    engine.end_with_mps(lambda: ended.append(len(machine.calls)))
    engine.open(silent)
    engine.say_on(str)
    try:
        engine.submit(replace(job(tmp_path, epochs=400), device="cpu"))
        (worker,) = engine._workers
        assert worker is not None
        worker.kill()
        drained(engine, 1)
        assert ended == [1], "the next one is no client"
        assert room.overhead() == USUAL
    finally:
        engine.close()
    assert ended == [1, 1]
    assert len(machine.calls) == 2


@pytest.mark.slow
def test_a_cuda_error_under_it_may_be_the_fault_of_another_training(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Failure("AcceleratorError: CUDA error: unspecified launch failure", 1, "")
    for library in (
        "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm",
    ):
        assert is_gpu_fault(Failure(library, 1, ""))
    assert is_gpu_fault(fault)
    assert not is_gpu_fault(replace(fault, memory=True))
    assert not is_gpu_fault(Failure("ValueError: no", 1, ""))
    for mps, crashed in ((Mps(), True), (None, False)):
        engine = LocalProcesses(1, mps=mps)
        engine.open(silent)
        try:
            engine.submit(replace(job(tmp_path, epochs=400), device="cpu"))
            worker = engine._workers[0]
            assert worker is not None
            said = *worker.jobs, fault
            monkeypatch.setattr(worker.pipe, "recv", lambda said=said: said)
            ((_, failure),) = drained(engine, 1)
            assert isinstance(failure, Failure)
            assert failure.crashed == crashed
            assert mps is None or not mps.active
        finally:
            engine.close()
