"""deploy/slurm.sh on one machine, with stand-ins for SLURM's own programs, in a process namespace of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
from tests.search.run.ray_nodes import free_ports, minutes, short_folder

SCRIPT = Path(__file__).parents[1] / "deploy" / "slurm.sh"
# `ray symmetric-run` ends with `ray stop`, which ends all Ray that it sees
ALONE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
PROGRAMS = {
    "scontrol": '[ "$1 $2 $3" = "show hostnames nodes" ] && echo 127.0.0.1',
    "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
    "activate": "",
}
SECONDS = 400.0  # of a start, and of an end, where other tests fill all cores
STUDY = """\
study: batch
data: digits
families: [gated_resnet]
sampler: random
space:
  gated_resnet: {backbone: resnet8, width: 0.25, batch: 32}
budget: {trials: 2, epochs: 12}
warm_start: false
early_stopping: false
train_limit: 256
cascades: false
run: {precision: float32}
"""


def alone() -> bool:
    """Whether this system gives a process a namespace of its own."""
    unshare = shutil.which("unshare")
    return bool(unshare) and subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    """That of the search, with the stand-ins in bin/; Ray's sockets need short paths."""
    with short_folder() as made:
        (made / "bin").mkdir()
        for name, text in PROGRAMS.items():
            (made / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
            (made / "bin" / name).chmod(0o755)
        (made / "study.yml").write_text(STUDY)
        yield made


def environment(folder: Path) -> dict[str, str]:
    (port,) = free_ports(1)
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    return inherited | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "DYNAFRONT_ENV": str(folder),
        "SLURM_JOB_ID": str(port - 20_000),
        "SLURM_JOB_NODELIST": "nodes",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
    }


def job(folder: Path) -> subprocess.Popen[str]:
    """The script, as sbatch starts it."""
    return subprocess.Popen(
        [*ALONE, "bash", str(SCRIPT), "study.yml"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(started: subprocess.Popen[str]) -> str:
    said, _ = started.communicate(timeout=SECONDS)
    return said


def test_the_first_machine_is_named_by_the_address_from_which_it_reaches_the_last(
    folder: Path,
) -> None:
    (folder / "bin" / "scontrol").write_text("#!/bin/bash\nprintf 'first\\n127.0.0.2\\n'\n")
    (folder / "bin" / "srun").write_text('#!/bin/bash\necho "$@"\n')
    done = subprocess.run(
        ["bash", str(SCRIPT), "study.yml"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"--address 127\.0\.0\.1:2\d{4} --min-nodes", done.stdout), done.stdout


@minutes
def test_a_job_whose_time_is_over_loses_nothing_and_the_same_job_goes_on(folder: Path) -> None:
    assert alone(), "the kernel gives no process namespace"
    first = job(folder)
    try:
        until = time.monotonic() + SECONDS
        while not list(folder.glob("dynafront-data/checkpoints/batch/*.safetensors")):
            assert first.poll() is None, end(first)
            assert time.monotonic() < until
            time.sleep(0.2)
        (script,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        os.kill(int(script), signal.SIGTERM)
        said = end(first)
    finally:
        first.kill()
    assert "Stopped. Nothing is lost" in said
    assert first.returncode != 0
    assert "Traceback" not in said
    second = job(folder)
    try:
        said = end(second)
    finally:
        second.kill()
    assert second.returncode == 0, said
    assert "connecting to the Ray cluster at 127.0.0.1:" in said
    assert not list(folder.glob("tmp.*")), "no file is left beside those of the search and of Ray"
