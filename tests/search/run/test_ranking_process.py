"""Candidates that are ranked by a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.load_driver import driven
from search.objectives import Reference
from search.run.mirror_process import MANY
from search.run.ranking_process import RankingProcess, ranking_beside
from search.schedule import growth
from search.schedule.ranking import Look, Ranking
from search.schedule.scheduler import Scheduler
from search.schedule.scheduler_for import setting_of
from search.spec import parse_study
from spaces.contract.task import Task
from storage.settings import Settings
from storage.store import Store

pytestmark = pytest.mark.slow
TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet, multi_exit]\nbudget: {trials: 9, epochs: 6}\nseed: 4\n"
SPEC = parse_study(TEXT, "s")
MADE_OF = SPEC, Task(channels=1, height=8, width=8, classes=10), Reference(accuracy=0.1, macs=1e7)
SEEN = 8


def look(number: int = 3) -> Look:
    """At so many trainings of ResNets, the more accurate the wider."""
    widths = np.resize([0.25, 0.5, 1.0], SEEN)
    names = [f"gated_resnet.{one}" for one in ("backbone", "width")]
    return Look(
        number=number,
        epochs={"gated_resnet": 2, "multi_exit": 6},
        baselines=frozenset(),
        params={
            i: {"family": "gated_resnet"} | dict(zip(names, ("resnet8", float(one)), strict=True))
            for i, one in enumerate(widths)
        },
        full_T=[False] * SEEN,
        sizes_TK=widths[:, None] ** 2 / 2,
        losses_TS=np.outer(1 - widths / 2, np.linspace(1.0, 0.5, len(growth.shares(1)))),
        good=[2, 5],
        grid_BK=growth.budgets(1),
        front_B=np.full(len(growth.budgets(1)), 0.6),
        worst=1.0,
    )


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def beside(said: list[str]) -> Iterator[RankingProcess]:
    found = ranking_beside(*MADE_OF, MANY, said.append)
    assert isinstance(found, RankingProcess)
    yield found
    found.close()


def test_it_ranks_the_same_candidates_as_this_process(beside: RankingProcess) -> None:
    here = Ranking(setting_of(*MADE_OF, MANY))
    for number in (3, 4):
        found = beside.of(look(number))
        assert len(found) > 20
        assert found == here.of(look(number))
    assert beside.of(look(3)) != beside.of(look(4))


def test_a_search_asks_for_the_same_candidates_with_it_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports come while candidates are ranked, here and there at another speed.

    The driver waits for a candidate as soon as a place is free. Where it took reports in until one is there, which it
    does otherwise, speed would decide what the next candidates are ranked by.
    """
    monkeypatch.setattr(Scheduler, "ready", True)
    found = []
    for many in (MANY, 10**6):
        monkeypatch.setattr("search.run.ranking_process.MANY", many)
        driven(tmp_path / str(many), 60, MANY)
        settings = Settings.model_validate({"storage": {"folder": tmp_path / str(many)}})
        with closing(Store.open(settings.database_url)) as store:
            (study,) = store.studies()
            found.append([trial.params for trial in store.trials(study.name, results=False)])
    assert len(found[0]) == 60
    assert found[0] == found[1]


def test_only_a_driver_of_many_trainings_has_one_and_only_for_the_sampler_that_ranks() -> None:
    assert ranking_beside(*MADE_OF, MANY - 1, print) is None
    listed = TEXT.replace(", multi_exit", "").replace("trials: 9, ", "")
    listed += "trials: [{width: 0.5}]\n"
    for text in (TEXT + "sampler: tpe\n", listed):
        assert ranking_beside(parse_study(text, "s"), *MADE_OF[1:], MANY, print) is None


def test_a_search_goes_on_where_the_process_is_killed(
    beside: RankingProcess, said: list[str]
) -> None:
    before = beside.of(look())
    psutil.Process(beside.process.pid).kill()
    assert beside.of(look()) == before
    assert beside.of(look()) == before
    assert said == ["the process that ranks candidates is gone; the search goes on without it"]


def test_a_search_goes_on_and_ends_where_the_process_hangs(
    beside: RankingProcess, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.run.ranking_process.PATIENCE", 0.5)
    psutil.Process(beside.process.pid).suspend()
    assert beside.of(look())
    assert len(said) == 1
    beside.close()


def test_an_error_there_is_raised_here_and_it_goes_on(beside: RankingProcess) -> None:
    with pytest.raises(KeyError, match="multi_exit"):
        beside.of(replace(look(), epochs={"gated_resnet": 2}))
    assert beside.of(look())


def test_it_outlives_ctrl_c_and_ends_with_the_search(beside: RankingProcess) -> None:
    pid = beside.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    assert beside.of(look())
    beside.close()
    assert not psutil.pid_exists(pid)
