"""A limit on latency from Python: kept by what the table says, or by what the whole network was measured at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dynafront
from search.commands import export, timed_choice
from search.commands.choice import Choice
from search.export import timed_points
from search.objectives import LATENCY
from storage.settings import Settings, Storage
from storage.store import Store
from tests.search.commands.test_timed_choice import Timer, store  # noqa: F401  # a fixture


@pytest.fixture
def study(store: Store, tmp_path: Path) -> dynafront.Study:  # noqa: F811
    settings = Settings(storage=Storage(database=f"sqlite:///{tmp_path / 's.sqlite'}"))
    return dynafront.study("s", settings=settings)


def test_a_point_that_breaks_the_limit_when_timed_is_not_the_best(
    study: dynafront.Study,
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    timer = Timer(store, lambda p: 1.1 * LATENCY.of(p))
    monkeypatch.setattr(timed_points.PointTimer, "of", lambda *_: timer)
    monkeypatch.setattr(timed_choice, "check_same_data", lambda *_: None)
    predicted = study.best(max_latency_ms=3.5)
    assert (predicted.trial, predicted.latency_ms, timer.asked) == ("4", 3.4, [])
    assert "3.4 ms" in repr(predicted)
    found = study.best(max_latency_ms=3.5, timed=True)
    assert (found.trial, found.latency_ms, timer.asked) == ("2", pytest.approx(3.19), [4, 2])
    assert "3.74 ms measured" in "".join(capsys.readouterr())
    study.best(max_latency_ms=2.5, timed=True, show=False)
    assert timer.asked == [4, 2, 1]
    assert not "".join(capsys.readouterr())


def test_a_point_is_exported_within_the_file_s_region_as_the_command_does(
    study: dynafront.Study,
    store: Store,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = store.study("s").spec
    store.set_spec("s", spec | {"region": {"max_latency_ms": 3.5}}, store.study("s").text)
    asked: list[Choice] = []

    def exported(*given: Any, **_: Any) -> list[str]:
        asked.append(given[4])
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "export_point", exported)
    with pytest.raises(KeyboardInterrupt):
        study.best().export(tmp_path / "model", show=False)
    assert asked == [Choice(pick="efficient", max_latency_ms="3.5")]
