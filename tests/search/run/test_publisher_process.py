"""MLflow that is kept up by a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from search.run.engine import InProcess
from search.run.publish import Publisher
from search.run.publisher_process import MANY, PublisherProcess, publisher_for
from search.spec import parse_study
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 2, epochs: 1}\n"
SPEC = parse_study(TEXT, "s")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    found.add_study("s", SPEC.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e7})
    found.add_trial("s", Kind.SEARCH, 0, "gated_resnet", {"backbone": "resnet8"}, 0, 1)
    points = [operating_point(0.8, 1e6)]
    found.finish_trial("s", Kind.SEARCH, 0, points=points, result={}, seconds=1.0)
    return found


def settings(folder: Path, **more: str) -> Settings:
    return Settings.model_validate({"storage": {"folder": folder}, **more})


def waited_for(done: Callable[[], bool]) -> bool:
    until = time.monotonic() + 60
    while not done() and time.monotonic() < until:
        time.sleep(0.05)
    return done()


@pytest.mark.slow
def test_a_finished_trial_and_the_front_are_in_mlflow(store: Store, tmp_path: Path) -> None:
    said: list[str] = []
    publisher = PublisherProcess(settings(tmp_path), SPEC, said.append)
    publisher.start()
    publisher.trial_finished(Kind.SEARCH, 0)
    publisher.front_changed()
    publisher.close()
    assert (publisher.away, said) == (False, [])
    assert not publisher.process.is_alive()
    assert store.trial("s", Kind.SEARCH, 0).published


@pytest.mark.slow
def test_what_it_says_is_said_here_once(store: Store, tmp_path: Path) -> None:
    said: list[str] = []
    away = settings(tmp_path, tracking_uri="http://127.0.0.1:9")
    publisher = PublisherProcess(away, SPEC, said.append)
    publisher.start()
    publisher.trial_finished(Kind.SEARCH, 0)
    assert waited_for(lambda: bool(said))
    publisher.close()
    assert publisher.away
    (line,) = said
    assert line.endswith("trials go on, `dynafront sync` will catch up")
    assert not store.trial("s", Kind.SEARCH, 0).published


@pytest.mark.slow
def test_a_study_goes_on_where_the_process_is_killed(store: Store, tmp_path: Path) -> None:
    said: list[str] = []
    publisher = PublisherProcess(settings(tmp_path), SPEC, said.append)
    publisher.start()
    psutil.Process(publisher.process.pid).kill()
    assert waited_for(lambda: bool(said))
    publisher.trial_finished(Kind.SEARCH, 0)
    publisher.front_changed()
    publisher.close()
    assert publisher.away
    assert said == ["MLflow's process ended; trials go on, `dynafront sync` will catch up"]


class Many(InProcess):
    slots = MANY + 1


def test_few_trainings_at_once_need_no_other_process(store: Store, tmp_path: Path) -> None:
    given = store, settings(tmp_path), SPEC, print
    assert isinstance(publisher_for(InProcess(), *given), Publisher)


@pytest.mark.slow
def test_many_trainings_at_once_have_one(store: Store, tmp_path: Path) -> None:
    publisher = publisher_for(Many(), store, settings(tmp_path), SPEC, print)
    assert isinstance(publisher, PublisherProcess)
