"""Studies that earlier code left behind open, show what they showed, and go on. See tests/stored/README.md."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from search.cli import main
from spaces.contract.registry import family

STORED = Path(__file__).parents[1] / "stored"
EXPECTED = json.loads((STORED / "expected.json").read_text())
DATA = Path("dynafront-data")
KILLED, EPOCHS = 13, 3  # the trial whose process was killed, and how many epochs it had by then
STUDIES = ("stored", "twins")
GUESSING = 0.1  # of ten classes

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored studies, in the current folder."""
    with tarfile.open(STORED / "study.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    # MLflow keeps a database open by its name for as long as the process lives: each test needs a name of its own
    Path("mlflow.yml").write_text(f"storage: {{folder: {tmp_path / DATA}}}\n")
    with sqlite3.connect(DATA / "mlflow.db") as runs:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            moved = f"replace({column}, 'file:///nowhere', ?)"
            runs.execute(f"update {table} set {column} = {moved}", (tmp_path.as_uri(),))
    runs.close()


def dynafront(*arguments: str) -> str:
    """What the command prints, as a person runs it in the current folder."""
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def shown(command: str, study: str) -> Any:
    """What a command shows of a study, without ids of points and the metric, which earlier code did not show."""
    options = ("--format", "json") if command == "front" else ("--json",)
    found = json.loads(dynafront(command, study, *options))
    if command == "front":
        assert all(point.pop("point") for point in found["points"])
        assert all(point.pop("metric") == "accuracy" for point in found["points"])
        assert all(point.pop("top1") == point["accuracy"] for point in found["points"])
        assert all(point.pop("top5") is None for point in found["points"])
    if command == "finalists":
        assert found.pop("metric", "accuracy") == "accuracy"
    return found


def rows(database: str, query: str, *values: Any) -> list[Any]:
    tables = sqlite3.connect(DATA / database)
    found = tables.execute(query, values).fetchall()
    tables.close()
    return found


def trials(study: str) -> dict[int, tuple[Any, ...]]:
    """(state, family, params, seed, epochs, trial whose result it took) by number."""
    columns = "number, state, family, params, seed, epochs, of_trial"
    found = rows(
        "dynafront.db",
        f"select {columns} from dynafront_trial where study = ? and kind = 'search'",
        study,
    )
    return {
        number: (state, family, json.loads(params), *rest)
        for number, state, family, params, *rest in found
    }


def epochs(number: int) -> list[Any]:
    """(epoch, measures, gate rates) of a trial of `stored`. Measures have the speed: no two trainings' are equal."""
    query = (
        "select epoch, metrics, gate_rates from dynafront_epoch where trial_id = ? order by epoch"
    )
    where = "study = 'stored' and kind = 'search' and number = ?"
    ((identifier,),) = rows("dynafront.db", f"select id from dynafront_trial where {where}", number)
    return [
        (epoch, json.loads(measures), json.loads(rates))
        for epoch, measures, rates in rows("dynafront.db", query, identifier)
    ]


def runs_by_name() -> list[str]:
    return sorted(
        name
        for (name,) in rows("mlflow.db", "select name from runs where lifecycle_stage = 'active'")
    )


def search_on(study: str, by: int = 1) -> str:
    """Search with so many trials more than the file says."""
    file, total = Path(f"{study}.yml"), EXPECTED[study]["status"][0]["trials"]["budget"]
    before = file.read_text()
    file.write_text(before.replace(f"trials: {total},", f"trials: {total + by},"))
    assert file.read_text() != before or not by
    return dynafront("search", f"{study}.yml")


def offered(seen: dict[str, Any]) -> dict[str, Any]:
    """What was seen of a study without the points of its front that are not significantly better than guessing.

    Earlier code showed these too. The hypervolume is still that of all points.
    """
    points = [p for p in seen["front"]["points"] if p["accuracy_low"] > GUESSING]
    assert len(points) == len(seen["front"]["points"]) - 1
    (status,) = seen["status"]
    front = {**status["front"], "points": len(points)}
    seen = {**seen, "status": [{**status, "front": front}]}
    return {**seen, "front": {**seen["front"], "points": points}}


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("command", ["front", "finalists"])
def test_a_stored_study_shows_what_it_showed(command: str, study: str) -> None:
    assert shown(command, study) == offered(EXPECTED[study])[command]


@pytest.mark.parametrize("study", STUDIES)
def test_the_status_of_a_stored_study_is_what_it_was(study: str) -> None:
    ((before,), (now,)) = (offered(EXPECTED[study])["status"], shown("status", study))
    for same in ("study", "seconds", "eta_seconds", "front", "failures"):
        assert now[same] == before[same], same
    assert now["exports"] == []
    assert (now["trials"]["budget"], now["trials"]["static"]) == (
        before["trials"]["budget"],
        before["trials"]["static"],
    )
    # a trial that no process trains was called "running" by the code that stored it
    assert (now["running"], now["interrupted"]) == ([], before["running"])
    by_state = dict(before["trials"]["by_state"])
    if killed := by_state.pop("running", 0):
        by_state["interrupted"] = killed
    assert now["trials"]["by_state"] == by_state


def test_a_stored_study_has_trials_in_every_state() -> None:
    states = [state for state, *_ in trials("stored").values()]
    assert set(states) == {"complete", "stopped", "failed", "running"}
    assert [number for number, (state, *_) in trials("stored").items() if state == "running"] == [
        KILLED
    ]
    assert [epoch for epoch, *_ in epochs(KILLED)] == list(range(1, EPOCHS + 1))
    assert sum(of is not None for *_, of in trials("twins").values()) == 2


def test_a_stored_study_goes_on_where_it_was_killed() -> None:
    before, front, old = epochs(KILLED), shown("front", "stored"), trials("stored")
    search_on("stored")
    after = epochs(KILLED)
    assert after[:EPOCHS] == before, "its first epochs were not trained again"
    assert [epoch for epoch, *_ in after] == [1, 2, 3, 4, 5]
    (status,) = shown("status", "stored")
    assert status["state"] == "finished"
    assert status["running"] == []
    assert shown("front", "stored")["hypervolume"] >= front["hypervolume"]
    assert_candidates_as_before("stored", old)


def test_repeated_trials_of_a_stored_study_go_on_to_be_repeated() -> None:
    old = trials("twins")
    search_on("twins")
    assert_candidates_as_before("twins", old)
    assert trials("twins")[4][-1] in (0, 2), "its result is that of an earlier trial"
    assert shown("front", "twins") == offered(EXPECTED["continued"]["twins"])["front"]


def assert_candidates_as_before(study: str, old: dict[int, tuple[Any, ...]]) -> None:
    """Ended trials are what they were, and the next candidate is the one that the earlier code chose.

    Only the next one: those after it depend on what is trained now, which differs a little between machines.
    """
    now = trials(study)
    expected = {one["number"]: one for one in EXPECTED["continued"][study]["trials"]}
    assert list(now) == list(expected)
    for number, (state, *rest) in old.items():
        assert (now[number][0], now[number][1:]) == (state, tuple(rest)) or state in (
            "running",
            "stopped",
        )
    following = max(old) + 1
    names = ("family", "params", "seed", "epochs")
    name, params, *rest = now[following][1:5]
    found = (name, without_later(name, params), *rest)
    assert found == tuple(expected[following][key] for key in names)


def without_later(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters without those of dimensions that earlier code did not have, which have their defaults."""
    later = {d.name: d.default for d in family(name).space if d.later}
    assert all(params[key] == value for key, value in later.items() if key in params)
    return {key: value for key, value in params.items() if key not in later}


@pytest.mark.parametrize("study", STUDIES)
def test_the_best_point_of_a_stored_study_is_exported(study: str) -> None:
    dynafront("export", study, "--pick", "best", "--out", "model")
    report = json.loads(Path("model/model.json").read_text())["report"]
    best = max(EXPECTED[study]["front"]["points"], key=lambda point: point["accuracy"])
    assert report["validation"]["accuracy"] == best["accuracy"]
    assert report["validation"]["macs_mean"] == best["macs_mean"]
    parity = report["parity"]
    assert parity["same_answers"] + parity["decided_by_rounding"] == parity["images"]


def test_mlflow_of_a_stored_study_goes_on_in_the_same_runs() -> None:
    # what is a baseline now was a plain net then
    before = Counter(name.replace("plain-net", "baseline") for name in runs_by_name())
    search_on("stored")
    dynafront("sync", "stored")
    after = Counter(name for name in runs_by_name() if ":" not in name)  # without those of points
    assert not before - after
    added = after - before
    assert {f"trial-{number:04d}" for number in range(KILLED, 16)} <= set(added)
    assert set(added.values()) == {1}, "none is there twice"
    assert "stored: 0 trials brought to MLflow" in dynafront("sync", "stored")


def test_a_stored_study_is_brought_to_a_new_mlflow() -> None:
    (DATA / "mlflow.db").unlink()
    ended = len(trials("stored")) - 1  # without the one under way
    found = dynafront("sync", "stored")
    others = rows(
        "dynafront.db",
        "select count(*) from dynafront_trial where study = 'stored' and kind != 'search'",
    )
    assert f"stored: {ended + others[0][0]} trials brought to MLflow" in found
