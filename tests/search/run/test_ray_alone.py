"""Ray that a search starts on this machine, and what is left of it; and Ray that `ray start` has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray")
from tests.search.run.ray_nodes import free_ports, minutes, short_folder

ROOT = Path(__file__).parents[3]
CLEARED = ("RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR")
TRAIN = """
import sys
from pathlib import Path
from search.run.ray_engine import RayEngine
from search.study_parts import Run
from tests.search.run.jobs import drained, job, kinds
engine = RayEngine(Run(engine="ray", address=sys.argv[1]), 1)
engine.open(print)
engine.submit(job(Path(sys.argv[2])))
print(kinds(drained(engine, 1))[-1].__name__)
engine.close()
"""

pytestmark = [pytest.mark.slow, minutes]


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder, which all processes of a test have in their environment; Ray's sockets need short paths."""
    with short_folder() as folder:
        yield folder


def environment(home: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in CLEARED}
    return inherited | {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"} | more


def processes(home: Path) -> list[str]:
    """The command lines of all that live with this home folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(home):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def trained(address: str, home: Path, folder: Path, program: str = TRAIN, **more: str) -> list[str]:
    """What an engine at this address says that trains one job, a line each."""
    done = subprocess.run(
        [sys.executable, "-c", program, address, str(folder)],
        cwd=ROOT,
        env=environment(home, **more),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nothing_is_left_of_a_cluster_that_a_search_started(home: Path, tmp_path: Path) -> None:
    (temporary := home / "tmp").mkdir()
    before = set(Path("/tmp").glob("ray-*"))
    said = trained("local", home, tmp_path, TMPDIR=str(temporary))
    assert said[0] == "starting Ray on this machine"
    assert said[-1] == "Outcome"
    end = time.monotonic() + 10
    while left := processes(home):
        assert time.monotonic() < end, left
        time.sleep(0.2)
    kept_by_torch = {
        temporary / f"torchinductor_{name}" for name in (os.environ.get("USER"), "root")
    }
    assert set(home.iterdir()) == {temporary}, "no token, which Ray writes into the home folder"
    assert set(temporary.iterdir()) <= kept_by_torch
    assert not [one for one in Path("/tmp").glob("ray-*") if one not in before and one != home]


FILL = """
import os
import sys
from pathlib import Path
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory
from search.run.job import Failure
from search.run.ray_engine import RayEngine
from search.study_parts import Run
from tests.search.run.jobs import job
from trainers.fit import EpochResult
free = 2.5e9  # a place needs about 1
os.environ["RAY_memory_usage_threshold"] = str((get_used_memory() + free) / get_system_memory())
os.environ["RAY_memory_monitor_refresh_ms"] = "100"
engine = RayEngine(Run(engine="ray", address="local"), 1)
engine.submit(job(Path(sys.argv[2]), epochs=100_000))
filled, trains, happened = [], False, None
while happened is None or not isinstance(happened[1], Failure):
    happened = engine.next_event(0.1)
    trains = trains or (happened is not None and isinstance(happened[1], EpochResult))
    if trains and len(filled) * 1e8 < 1.5 * free:
        filled.append(bytearray(os.urandom(100_000) * 1000))
filled.clear()
print(happened[1])
engine.close()
"""


def test_a_training_that_ray_ends_for_memory_is_told_as_that(home: Path, tmp_path: Path) -> None:
    said = trained("local", home, tmp_path, FILL)[-1]
    assert "was ended by Ray, for the node ran out of memory" in said
    assert "memory=True" in said


@contextmanager
def started_by_hand(home: Path, dashboard: int = 0) -> Iterator[int]:
    """The port of a head as `ray start` starts it, with a dashboard at another; all of it ends with the command."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    options = ["--port", str(port), "--num-cpus", "1"]
    options += ["--include-dashboard", "true" if dashboard else "false"]
    options += ["--dashboard-port", str(dashboard)] if dashboard else []
    head = subprocess.Popen(
        [*command, *options, "--node-ip-address", "127.0.0.1"],
        env=environment(home, RAY_TMPDIR=str(home)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 90
        while not (home / "ray" / "ray_current_cluster").exists():
            assert head.poll() is None, "Ray has not started"
            assert time.monotonic() < end
            time.sleep(0.2)
        yield port
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(60)


def test_a_cluster_of_ray_start_is_found_where_it_keeps_its_files_and_shown_the_token_it_asks_for(
    home: Path, tmp_path: Path
) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("a" * 64)
    with started_by_hand(home) as port:
        said = trained("auto", home, tmp_path, RAY_TMPDIR=str(home))
        assert said[0].startswith("connecting to the Ray cluster at ")
        assert said[0].endswith(f":{port}")
        assert said[-1] == "Outcome"


STUDY = """\
study: submitted
data: digits
families: [gated_resnet]
sampler: random
space:
  gated_resnet: {backbone: resnet8, width: 0.25, batch: 32}
budget: {trials: 1, epochs: 12}
warm_start: false
train_limit: 256
cascades: false
run: {engine: ray, precision: float32}
"""


def test_a_search_that_is_submitted_as_a_job_runs_on_the_cluster(
    home: Path, tmp_path: Path
) -> None:
    """The dashboard and the command come with the extra `ray`."""
    (dashboard,) = free_ports(1)
    (tmp_path / "study.yml").write_text(STUDY)
    search = f"cd {tmp_path} && {sys.executable} -m dynafront search study.yml --engine ray"
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
    with started_by_hand(home, dashboard):
        done = subprocess.run(
            [*submit, "--address", f"http://127.0.0.1:{dashboard}", "--", "sh", "-c", search],
            env=environment(home),
            capture_output=True,
            text=True,
            timeout=400,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "connecting to the Ray cluster at " in done.stdout
    assert "1 trial" in done.stdout
