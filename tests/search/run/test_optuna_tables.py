"""Trials that are written into Optuna's tables directly are those that Optuna writes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from search.run import optuna_tables
from search.run.optuna_mirror import optuna_storage
from search.run.optuna_tables import LAYOUT, Begin, End, writer_of

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
    begun = [Begin(number, drawn(0.1 + number / 10)) for number in range(5)]
    ids = writer.write(begun[:3], {})
    more = [begun[3], *(End(number, *end) for number, end in enumerate(ENDS)), begun[4]]
    ids |= writer.write(more, ids)
    assert list(ids) == list(range(5))
    again = [End(0, TrialState.FAIL), End(0, TrialState.PRUNED, None, {"stopped": 1})]
    assert writer.write(again, ids) == {}, "a trial that has ended stays as it is"
    assert writer.write([End(4, TrialState.PRUNED), End(4, TrialState.COMPLETE, [1, 1])], ids) == {}
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
    assert found[4][1] == TrialState.PRUNED


def test_times_are_those_of_the_clock(tmp_path: Path) -> None:
    study = opened(tmp_path / "o.db")
    writer = writer_of(study._storage, study._study_id)
    writer.write([Begin(0, drawn(0.5)), Begin(1, drawn(0.5)), End(0, *ENDS[0])], {})
    ended, running = study.get_trials()
    assert ended.datetime_start is not None
    assert ended.datetime_complete is not None
    assert abs(datetime.now() - ended.datetime_start) < timedelta(minutes=1)
    assert ended.datetime_start <= ended.datetime_complete
    assert running.datetime_complete is None


def test_the_layout_of_optunas_tables_is_the_known_one(tmp_path: Path) -> None:
    storage = optuna_storage(f"sqlite:///{tmp_path / 'o.db'}")
    assert storage.get_head_version() == LAYOUT  # else trials are written slowly: look what changed


def test_many_trials_take_few_statements_and_one_transaction(tmp_path: Path) -> None:
    study, said = opened(tmp_path / "o.db"), list[str]()
    writer = writer_of(study._storage, study._study_id)
    engine = study._storage._backend.engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    event.listen(engine, "commit", lambda _: said.append("COMMIT"))
    ids = writer.write([Begin(number, drawn(0.5)) for number in range(12)], {})
    writer.write([*(End(number, *ENDS[0]) for number in range(12)), Begin(12, drawn(0.5))], ids)
    assert len(said) <= 3 + 1 + 7 + 1, said
    assert said.count("COMMIT") == 2
