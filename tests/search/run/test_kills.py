"""Searches that are killed at random moments, and searches that start at once: real processes, real networks."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.crashes import LOG, STUDY, Launcher, Search, differences, known, new_folder

pytestmark = pytest.mark.slow
SMALL = STUDY.replace(
    "trials: 3, epochs: 6, warm_epochs: 3", "trials: 2, epochs: 4, warm_epochs: 2"
)
# points that the front loses again have runs then
DRAWN_OFTEN = "import search.run.publish; search.run.publish.FRONT_SECONDS = 0.0"


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


def after(seconds: float, search: Search) -> Search:
    """The search, so much later; it must not have ended with an error."""
    assert search.ended(seconds) in (None, 0), (search.folder / LOG).read_text()
    return search


def killed_after(seconds: float, search: Search) -> None:
    """Kill the search so much later, where it has not come to its end by itself."""
    code = search.ended(seconds)
    assert code in (None, 0), (search.folder / LOG).read_text()
    if code is None:
        search.kill()


def test_a_search_that_is_killed_at_random_moments_ends_as_one_that_was_not(
    launcher: Launcher, tmp_path: Path
) -> None:
    draw = random.Random()
    whole, folder = (new_folder(tmp_path, name, SMALL) for name in ("whole", "killed"))
    began = time.monotonic()
    assert launcher.search(whole, "--workers", "0").ended(600) == 0, (whole / LOG).read_text()
    seconds = time.monotonic() - began
    search = launcher.search(folder, "--workers", "1", before=DRAWN_OFTEN)
    for _ in range(300):  # until there is a worker
        after(0.2, search)
        if search.kill_worker():
            break
    killed_after(draw.uniform(0.0, seconds / 4), search)
    search = launcher.search(folder, "--workers", "0", before=DRAWN_OFTEN)
    killed_after(draw.uniform(0.0, seconds / 2), search)
    assert launcher.search(folder, "--workers", "0").ended(600) == 0, (folder / LOG).read_text()
    assert differences(folder, known(whole)) == []


def test_of_eight_searches_that_start_at_once_one_drives_and_the_others_say_who_does(
    launcher: Launcher, tmp_path: Path
) -> None:
    folder = new_folder(tmp_path, "shared", SMALL.replace("trials: 2", "trials: 100"))
    shutil.rmtree(folder / "dynafront-data")
    waiting = [launcher.search(folder, "--workers", "0") for _ in range(8)]
    codes: list[int] = []
    until = time.monotonic() + 300
    while len(waiting) > 1 and time.monotonic() < until:
        for search in tuple(waiting):
            if (code := search.ended(0.02)) is not None:
                codes.append(code)
                waiting.remove(search)
    (driver,) = waiting
    os.kill(driver.pid, signal.SIGTERM)
    assert driver.ended(60) == 130
    said = (folder / LOG).read_text()
    assert codes == [2] * 7, said
    assert "Stopped. Nothing is lost: dynafront search study.yml goes on." in said
    line = (
        rf"^Error: study killed is being searched by process {driver.pid} on \S+; "
        "watch it with `dynafront status killed`$"
    )
    assert len(re.findall(line, said, re.MULTILINE)) == 7, said
    assert "Traceback" not in said


DEATH = """
import search.run.engine
from search.run.job import Outcome
from tests.points import operating_point

def apart(job, limits=None):
    yield Outcome([operating_point(0.5, 1e5 * (job.number + 1))], 10, 100, {"device": "cpu"}, 0.5)

def events(job):
    if job.number == 1:
        os._exit(139)
    yield from apart(job)

search.run.engine.events, search.run.engine.events_apart = events, apart
"""


def test_the_command_gets_past_a_trial_that_takes_its_process_down(
    launcher: Launcher, tmp_path: Path
) -> None:
    text = SMALL.replace("trials: 2", "trials: 3") + "warm_start: false\nearly_stopping: false\n"
    folder = new_folder(tmp_path, "dying", text.replace(", warm_epochs: 2", ""))
    searches = (launcher.search(folder, "--workers", "0", before=DEATH) for _ in range(3))
    codes = [search.ended(300) for search in searches]
    said = (folder / LOG).read_text()
    assert codes == [139, 139, 0], said
    assert "trial 1: the search ended while it trained; now it has a process of its own" in said
    assert "3 trials" in said, said
