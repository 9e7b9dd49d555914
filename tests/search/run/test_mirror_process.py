"""Optuna's tables that are written by a process of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import optuna
import psutil
import pytest

from search.run.books import Books
from search.run.mirror_process import MANY, MirrorProcess, mirror_beside
from search.run.optuna_mirror import OptunaMirror
from search.schedule.decisions import Trial
from search.spec import StudySpec, parse_study
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.records import Kind, State
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point

pytestmark = pytest.mark.slow
TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 9, epochs: 2}\n"
SPEC = parse_study(TEXT, "s")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"storage": {"folder": tmp_path}})


@pytest.fixture
def store(settings: Settings) -> Store:
    found = Store.open(settings.database_url)
    found.add_study("s", SPEC.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e7})
    return found


def trial(number: int, spec: StudySpec = SPEC) -> Trial:
    candidate = Candidate.of(family(spec.families[0]), {}, 2)
    return Trial(Kind.SEARCH, number, candidate, number)


def in_optuna(settings: Settings) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="s", storage=settings.optuna_url).get_trials()


def end(store: Store, books: Books, number: int) -> None:
    points = [operating_point(0.8, 1e6)]
    store.finish_trial("s", "search", number, points=points, result={}, seconds=1.0)
    books.mirror_end(store.trial("s", "search", number), points)


def test_what_happens_is_in_optunas_tables_as_a_thread_would_have_written_it(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    written = []
    for folder, slots in ((settings, MANY), (None, 1)):
        own = folder or Settings.model_validate({"storage": {"folder": tmp_path / "other"}})
        own.folder.mkdir(exist_ok=True)
        other = store if folder else Store.open(own.database_url)
        if not folder:
            other.add_study("s", SPEC.model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e7})
        mirror = mirror_beside(slots, other, own, SPEC, print)
        assert isinstance(mirror, MirrorProcess if folder else OptunaMirror)
        books = Books(other, "s", SPEC.costs, mirror)
        for number in range(3):
            books.record(trial(number))
        end(other, books, 0)
        mirror.stop(1, 1, (0.5, 1e6))
        mirror.fail(2)
        books.close()
        written.append(
            [(t.number, t.state, t.params, t.values, t.user_attrs) for t in in_optuna(own)]
        )
    assert written[0] == written[1]
    states = [state.name for _, state, *_ in written[0]]
    assert states == ["COMPLETE", "PRUNED", "FAIL"]


def test_what_was_missed_is_made_up_for_and_what_is_unknown_is_told(
    store: Store, settings: Settings
) -> None:
    books = Books(store, "s", SPEC.costs)
    books.record(trial(0))
    mirror = MirrorProcess(settings, SPEC, print)
    assert mirror.unknown == {}
    mirror.add("gated_resnet", dict(trial(1).candidate.params))  # and is never in our tables
    mirror.close()
    assert not mirror.process.is_alive()
    again = MirrorProcess(settings, SPEC, print)
    again.close()
    assert list(again.unknown) == [1]
    assert [t.number for t in in_optuna(settings)] == [0, 1]


def test_an_error_of_a_write_is_raised_here(store: Store, settings: Settings) -> None:
    mirror = MirrorProcess(settings, SPEC, print)
    mirror.fail(7)  # no such trial
    with pytest.raises(KeyError, match="7"):
        mirror.close()
    assert not mirror.process.is_alive()


def test_another_choice_than_a_study_was_begun_with_is_told_when_it_begins(
    store: Store, settings: Settings
) -> None:
    mirror = mirror_beside(1, store, settings, SPEC, print)
    mirror.add("gated_resnet", dict(trial(0).candidate.params))
    mirror.close()
    narrowed = parse_study(TEXT + "space: {gated_resnet: {backbone: [resnet8, resnet14]}}\n", "s")
    with pytest.raises(ValueError, match="was begun when"):
        MirrorProcess(settings, narrowed, print)


def test_a_search_goes_on_where_the_process_is_killed(store: Store, settings: Settings) -> None:
    said: list[str] = []
    mirror = MirrorProcess(settings, SPEC, said.append)
    books = Books(store, "s", SPEC.costs, mirror)
    books.record(trial(0))
    psutil.Process(mirror.process.pid).kill()
    mirror.process.join()
    books.record(trial(1))
    end(store, books, 1)
    books.close()
    (line,) = said
    assert line.endswith("the next search of this study writes there what is missing")
    again = mirror_beside(1, store, settings, SPEC, print)
    again.close()
    assert [t.number for t in in_optuna(settings)] == [0, 1]


def test_it_outlives_ctrl_c_and_an_end_by_the_terminal(store: Store, settings: Settings) -> None:
    mirror = MirrorProcess(settings, SPEC, print)
    pid = mirror.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    books = Books(store, "s", SPEC.costs, mirror)
    books.record(trial(0))
    books.close()
    (one,) = in_optuna(settings)
    assert one.state.name == "RUNNING"
    assert store.trial("s", "search", 0).state == State.RUNNING
