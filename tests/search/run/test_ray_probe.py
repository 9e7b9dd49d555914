"""Number formats that are measured on a cluster: what is asked of a place, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from search.run.giving_up import TimeIsOverError
from search.run.number_formats import CrashedError
from search.run.ray_cluster import ClusterError
from search.run.ray_engine import RayEngine
from search.run.ray_probe import TRIES, ClusterProbe
from spaces.contract.task import Task
from tests.search.run.jobs import job
from trainers.execution import Execution

TASK = Task(channels=1, height=8, width=8, classes=10)
HALF = Execution(device="cuda", dtype="bfloat16")


class Engine:
    """Answers in turn; None: the place was lost."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []

    def found_place(self, check: Callable[[], None]) -> str:
        check()
        return "place"

    def ask(self, place: str, what: str, *arguments: Any) -> Any:
        self.asked.append((what, *arguments))
        return self.answers.pop(0)


def probe(*answers: Any) -> tuple[ClusterProbe, Engine]:
    engine = Engine(answers)
    return ClusterProbe(cast(RayEngine, engine)), engine


def test_the_place_says_what_is_fastest_on_its_own_device(tmp_path: Path) -> None:
    there, engine = probe("cuda", "a GPU", (HALF, False))
    assert there.device("auto") == "cuda"
    assert there.device_name("cuda") == "a GPU"
    assert there.fastest(job(tmp_path), TASK, [HALF]) == HALF
    assert engine.asked[-1] == ("fastest", job(tmp_path), TASK, (HALF,))


def test_a_format_that_takes_its_process_down_is_named(tmp_path: Path) -> None:
    with pytest.raises(CrashedError) as found:
        probe((HALF, True))[0].fastest(job(tmp_path), TASK, ())
    assert found.value.tried == HALF


def test_another_place_is_asked_where_one_is_lost() -> None:
    assert probe(None, "cpu")[0].device("auto") == "cpu"
    with pytest.raises(ClusterError, match="3 processes of the cluster ended while they measured"):
        probe(*[None] * TRIES)[0].device("auto")


def test_a_wait_for_a_place_ends_where_the_search_may_not_go_on() -> None:
    def over() -> None:
        raise TimeIsOverError

    with pytest.raises(TimeIsOverError):
        ClusterProbe(cast(RayEngine, Engine(["cpu"])), over).device("auto")
