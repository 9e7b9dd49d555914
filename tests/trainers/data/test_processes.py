"""A process that is started anew does not run the program that starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainers.data.processes import spawned

PROGRAM = """\
import os
from trainers.data.processes import forked_from_server, spawned
print("begun", flush=True)
process = {context}.Process(target=os.getpid)
process.start()
process.join()
print("exit code", process.exitcode)
"""


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawned()", "forked_from_server(['json'])"])
def test_a_script_without_a_main_guard_runs_once(context: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM.format(context=context))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert (done.stdout, done.stderr) == ("begun\nexit code 0\n", "")


@pytest.mark.slow
def test_the_main_module_is_there_again_when_threads_start_processes() -> None:
    main = sys.modules["__main__"]

    def start(_: int) -> int | None:
        process = spawned().Process(target=os.getpid)
        process.start()
        process.join()
        return process.exitcode

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(start, range(8))) == {0}
    assert sys.modules["__main__"] is main
