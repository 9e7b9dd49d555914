"""Trials that are written into Optuna's tables directly are those that Optuna writes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from search.run import optuna_tables
from search.run.optuna_mirror import optuna_storage
from search.run.optuna_tables import LAYOUT, writer_of

FRONT = {"operating points": [{"accuracy": 0.5}]}
ENDS: list[tuple[TrialState, list[float] | None, dict[str, Any]]] = [
    (TrialState.COMPLETE, [0.5, 2e6], FRONT),
    (TrialState.COMPLETE, [0.25, float("inf")], {}),
    (TrialState.FAIL, None, {}),
    (TrialState.PRUNED, None, {"stopped": {"epoch": 2}}),
]


def drawn(lr: float) -> FrozenTrial:
    fixed = optuna.trial.FixedTrial({"family": "a", "a.lr": lr, "a.depth": 3})
    fixed.suggest_categorical("family", ["a", "b"])
    fixed.suggest_float("a.lr", 1e-3, 1.0, log=True)
    fixed.suggest_int("a.depth", 1, 9)
    return optuna.trial.create_trial(
        state=TrialState.RUNNING, params=fixed.params, distributions=fixed.distributions
    )


def opened(file: Path) -> optuna.Study:
    return optuna.create_study(
        storage=optuna_storage(f"sqlite:///{file}"),
        study_name="s",
        directions=["maximize", "minimize"],
    )


def written(study: optuna.Study) -> list[tuple[Any, ...]]:
    writer = writer_of(study._storage, study._study_id)
    ids = [writer.create(drawn(0.1 + number / 10)) for number in range(5)]
    for trial, (state, values, shown) in zip(ids, ENDS, strict=False):
        writer.end(trial, state, values, shown)
    with pytest.raises(UpdateFinishedTrialError):
        writer.end(ids[0], TrialState.FAIL, None, {})
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.user_attrs, t.system_attrs)
        for t in optuna.load_study(study_name="s", storage=study._storage).trials
    ]


def test_trials_are_those_that_optuna_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(opened(tmp_path / "direct.db"))
    monkeypatch.setattr(optuna_tables, "LAYOUT", "another")  # as a later version of Optuna may have
    assert found == written(opened(tmp_path / "calls.db"))
    assert [one[0] for one in found] == list(range(5))
    assert found[4][1] == TrialState.RUNNING


def test_times_are_those_of_the_clock(tmp_path: Path) -> None:
    study = opened(tmp_path / "o.db")
    written(study)
    ended, *_, running = study.get_trials()
    assert ended.datetime_start is not None
    assert ended.datetime_complete is not None
    assert abs(datetime.now() - ended.datetime_start) < timedelta(minutes=1)
    assert ended.datetime_start <= ended.datetime_complete
    assert running.datetime_complete is None


def test_the_layout_of_optunas_tables_is_the_known_one(tmp_path: Path) -> None:
    storage = optuna_storage(f"sqlite:///{tmp_path / 'o.db'}")
    assert storage.get_head_version() == LAYOUT  # else trials are written slowly: look what changed


def test_a_trial_takes_few_statements(tmp_path: Path) -> None:
    study, said = opened(tmp_path / "o.db"), list[str]()
    writer = writer_of(study._storage, study._study_id)
    engine = study._storage._backend.engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    writer.end(writer.create(drawn(0.5)), *ENDS[0])
    assert len(said) <= 7, said
