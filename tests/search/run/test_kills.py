"""Searches that are killed at random moments, and searches that start at once: real processes, real networks."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crashes import STUDY, differences, known, new_folder
from benchmarks.kills import BESIDE, BOTH, DRIVER, LATE, WORKER, killed_until_done, kinds_here
from benchmarks.launcher import LOG, Launcher

pytestmark = pytest.mark.slow
SEED = os.environ.get("DYNAFRONT_TEST_KILLS") or str(random.randrange(2**32))
SMALL = STUDY.replace(
    "trials: 3, epochs: 6, warm_epochs: 3", "trials: 2, epochs: 8, warm_epochs: 4"
).replace("train_limit: 256", "train_limit: 96")
MOST_STUDIES = 8  # each is killed as long as there are kills left
# points that the front loses again have runs then; five workers have a process that writes to Optuna
BEFORE = """
import search.run.mirror_process, search.run.publish
search.run.publish.FRONT_SECONDS = 0.0
search.run.mirror_process.MANY = 5
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as found:
        yield found


@dataclass(frozen=True)
class Uninterrupted:
    """What all tables say of a study whose search was not killed, and how long that took."""

    parent: Path
    known: dict[str, Any]
    seconds: float


@pytest.fixture(scope="module")
def uninterrupted(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    parent = tmp_path_factory.mktemp("kills")
    whole = new_folder(parent, "whole", SMALL)
    began = time.monotonic()
    assert launcher.search(whole, "--workers", "0").ended(600) == 0, (whole / LOG).read_text()
    return Uninterrupted(parent, known(whole), time.monotonic() - began)


@pytest.mark.parametrize(
    ("workers", "kills"),
    [
        (0, {DRIVER: 12}),
        (1, {WORKER: 4, LATE: 1, BOTH: 1}),
        (2, {WORKER: 3, DRIVER: 1, LATE: 1, BOTH: 1}),
        (5, {WORKER: 2, BESIDE: 2, LATE: 1, BOTH: 1}),
    ],
)
def test_a_search_that_is_killed_at_random_moments_ends_as_one_that_was_not(
    launcher: Launcher, uninterrupted: Uninterrupted, workers: int, kills: dict[str, int]
) -> None:
    draw = random.Random(seed := f"{SEED}-{workers}")
    kinds = [kind for kind, count in kills.items() for _ in range(count) if here(kind, workers)]
    draw.shuffle(kinds)
    planned, done = Counter(kinds), Counter[str]()
    for study in range(MOST_STUDIES):
        folder = new_folder(uninterrupted.parent, f"{workers}-{study}", SMALL)
        search = launcher.search(folder, "-v", "--workers", str(workers), before=BEFORE)
        # a new study has all its trainings before it
        done += killed_until_done(search, kinds, draw, uninterrupted.seconds / 10)
        found = differences(folder, uninterrupted.known)
        assert found == [], f"DYNAFRONT_TEST_KILLS={SEED} {seed} {done}"
        if not kinds:
            break
    assert done == planned


def here(kind: str, workers: int) -> bool:
    return kind in kinds_here(workers)


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
    folder = new_folder(tmp_path, "dying", text.replace(", warm_epochs: 4", ""))
    searches = (launcher.search(folder, "--workers", "0", before=DEATH) for _ in range(3))
    codes = [search.ended(300) for search in searches]
    said = (folder / LOG).read_text()
    assert codes == [139, 139, 0], said
    assert "trial 1: the search ended while it trained; now it has a process of its own" in said
    assert "3 trials" in said, said
