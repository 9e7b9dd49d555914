"""A limit on latency from Python: kept by what the table says, or by what the whole network was measured at."""

from __future__ import annotations

from pathlib import Path

import pytest

import dynafront
from search.commands import timed_choice
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
