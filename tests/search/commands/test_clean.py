"""Studies listed, cleaned and deleted: what goes, and above all what stays."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select

from search.cli import main
from search.spec import parse_study
from storage.checkpoint_files import files_below
from storage.database import Database
from storage.kept_files import KeptFiles, checkpoint_store
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store
from storage.tables import METADATA
from tests.points import operating_point

TEXT = (
    "study: s\ndata: digits\nfamilies: [gated_resnet, multi_exit]\nbudget: {trials: 6, epochs: 9}\n"
)
PLAIN = "plain-0123456789abcdef"


def dynafront(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=answer, catch_exceptions=False)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A finished study: trial 0 on the front, 1 off it, 2 on its family's own, 3 stopped, 4 failed, 5 exported."""
    monkeypatch.chdir(tmp_path)
    made = Store.open(Settings().database_url)
    spec = parse_study(TEXT, "s").model_dump(mode="json")
    made.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7})
    points = {
        0: (0.9, 1e6, "gated_resnet"),
        1: (0.7, 2e6, "gated_resnet"),
        2: (0.6, 3e6, "multi_exit"),
        3: (0.5, 4e6, "gated_resnet"),
        5: (0.4, 5e6, "gated_resnet"),
    }
    for number in range(6):
        family = points[number][2] if number in points else "gated_resnet"
        made.add_trial("s", Kind.SEARCH, number, family, {}, 0, 9)
        if number in points:
            accuracy, macs, _ = points[number]
            state: Any = "stopped" if number == 3 else "complete"
            own = [operating_point(accuracy, macs)]
            result = {"stopped_at": 3} if number == 3 else {}
            made.finish_trial(
                "s", Kind.SEARCH, number, points=own, result=result, seconds=1.0, state=state
            )
    made.fail_trial("s", Kind.SEARCH, 4, error="broken", epoch=1, trace="")
    for kind in (Kind.BASELINE, Kind.FINALIST):
        made.add_trial("s", kind, 0, "gated_resnet", {}, 0, 9)
        own = [operating_point(0.3, 9e6)]
        made.finish_trial("s", kind, 0, points=own, result={"finalist_of": 0}, seconds=1.0)
    exported = made.points("s", kind=Kind.SEARCH, number=5)[0].id
    made.add_export("s", pick="best", folder="x", report={}, point=exported)
    folder = Settings().checkpoints / "s"
    folder.mkdir(parents=True)
    trainings = [f"search-{n:04d}" for n in range(6)] + ["static-0000", "finalist-0000", PLAIN]
    for name in trainings:
        for suffix in (".safetensors", ".before.safetensors"):
            (folder / f"{name}{suffix}").write_bytes(bytes(1000))
    return made


def left() -> set[str]:
    return {file.name.partition(".")[0] for file in (Settings().checkpoints / "s").iterdir()}


KEPT = {"search-0000", "search-0002", "search-0003", "search-0004", "search-0005"}


def test_only_what_nothing_can_need_goes(store: Store) -> None:
    dry = dynafront("clean", "--dry-run")
    assert "s: 18 kB of checkpoints" in dry.output
    assert "4.0 kB can go, of 2 trainings" in dry.output
    assert len(left()) == 9
    result = dynafront("clean", "s")
    assert result.exit_code == 0, result.output
    assert "4.0 kB gone, of 2 trainings" in result.output
    assert left() == KEPT | {"static-0000", PLAIN}
    assert store.study("s").owner is None
    again = dynafront("clean", "s")
    assert "nothing can go" in again.output


def test_programs_read_what_can_go(store: Store) -> None:
    (found,) = json.loads(dynafront("clean", "--dry-run", "--json").output)
    assert (found["checkpoint_bytes"], found["can_go_bytes"], found["trainings"]) == (
        18000,
        4000,
        2,
    )


def test_a_study_that_is_not_finished_keeps_all(store: Store) -> None:
    spec = parse_study(TEXT.replace("trials: 6", "trials: 7"), "s").model_dump(mode="json")
    store.set_spec("s", spec, TEXT)
    assert "6 of 7 trials have ended" in dynafront("clean").output
    assert len(left()) == 9


def test_an_interrupted_training_keeps_all(store: Store) -> None:
    store.add_trial("s", Kind.FINALIST, 1, "gated_resnet", {}, 0, 9)
    assert "nothing can go: it was interrupted" in dynafront("clean").output
    assert len(left()) == 9


@pytest.mark.parametrize("words", [("clean",), ("delete", "s", "--yes")])
def test_a_study_that_is_searched_keeps_all(store: Store, words: tuple[str, ...]) -> None:
    store.take_lease("s", "elsewhere:1:x", 60)
    result = dynafront(*words)
    assert "being searched" in result.output
    assert len(left()) == 9
    assert store.find_study("s") is not None
    if words[0] == "delete":
        assert result.exit_code == 2


def test_all_studies_are_listed(store: Store) -> None:
    (one,) = json.loads(dynafront("list", "--json").output)
    assert one | {"created": "", "changed": ""} == {
        "study": "s",
        "state": "finished",
        "trials": 6,
        "budget": 6,
        "best_accuracy": 0.9,
        "points": 1,
        "checkpoint_bytes": 18000,
        "created": "",
        "changed": "",
    }
    row = dynafront("list").output.splitlines()[1].split()
    assert row[:9] == ["s", "finished", "6", "of", "6", "90.0", "%", "1", "18"]
    assert row[10] == time.strftime("%Y-%m-%d")


@pytest.fixture
def elsewhere(store: Store, tmp_path: Path) -> KeptFiles:
    """The study's checkpoints are in a store, and none is on this machine."""
    (tmp_path / "mlflow.yml").write_text("storage: {checkpoints: shared}")
    files = checkpoint_store(Settings().checkpoints, str(tmp_path / "shared"))
    for part in ("checkpoints", "features"):
        (tmp_path / "shared" / part).mkdir(parents=True)
    folder = files.folder / "s"
    assert files.put_all(files_below(folder)) == 0
    shutil.rmtree(folder)
    return files


def test_a_machine_that_never_held_a_checkpoint_sees_and_cleans_the_store(
    store: Store, elsewhere: KeptFiles, tmp_path: Path
) -> None:
    place = f"9.0 kB in {tmp_path / 'shared' / 'checkpoints'}"
    assert f"disk     0 bytes of checkpoints here, {place}" in dynafront("status", "s").output
    (found,) = json.loads(dynafront("list", "--json").output)
    assert (found["checkpoint_bytes"], found["stored_bytes"]) == (0, 9000)
    assert "0 bytes, stored: 9.0 kB" in dynafront("list").output
    assert f"s: 0 bytes of checkpoints here, {place}" in dynafront("clean", "--dry-run").output
    assert "2.0 kB gone, of 2 trainings" in dynafront("clean", "s").output
    left = {name.partition("/")[2].partition(".")[0] for name in elsewhere.stored("s")}
    assert left == KEPT | {"static-0000", PLAIN}


def test_a_deleted_study_leaves_nothing_in_the_store(store: Store, elsewhere: KeptFiles) -> None:
    other = elsewhere.folder / "other" / "search-0000.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another study")
    elsewhere.put(other)
    result = dynafront("delete", "s", "--yes")
    assert result.exit_code == 0, result.output
    assert "9.0 kB in" in result.output
    assert elsewhere.stored("") == {"other/search-0000.safetensors": 13}


def test_without_the_store_nothing_is_deleted(
    store: Store, elsewhere: KeptFiles, tmp_path: Path
) -> None:
    (tmp_path / "shared").rename(tmp_path / "moved")
    for command in (["delete", "s", "--yes"], ["clean"]):
        result = dynafront(*command)
        assert result.exit_code == 1
        assert "there is no such folder; mount or make it" in result.output
    assert store.find_study("s") is not None
    assert "there is no such folder" in dynafront("clean", "s").output
    assert "stored: unknown" in dynafront("list").output


def test_features_stay_while_a_study_is_searched_and_go_afterwards(store: Store) -> None:
    file = Settings().features / "abc.npy"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(5000))
    other = parse_study(TEXT.replace("study: s", "study: other"), "other").model_dump(mode="json")
    store.add_study("other", other, "", {})
    store.take_lease("other", "elsewhere:1:x", 60.0)
    assert "5.0 kB stay, a study is being searched" in dynafront("clean").output
    assert file.exists()
    store.release_lease("other", "elsewhere:1:x")
    dynafront("clean", "s")
    assert file.exists(), "features belong to no study"
    assert "features of frozen trunks: 5.0 kB gone" in dynafront("clean").output
    assert not file.exists()


def test_no_study_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No study yet" in dynafront("list").output


def test_a_deletion_asks_first(store: Store) -> None:
    result = dynafront("delete", "s", answer="n\n")
    assert result.exit_code == 1
    assert "Delete s: 8 trainings, 18 kB of checkpoints? [y/N]" in result.output
    assert store.find_study("s") is not None
    assert len(left()) == 9


def test_nothing_of_a_deleted_study_is_left(store: Store) -> None:
    other = store.add_study("other", {}, "", {})
    result = dynafront("delete", "s", "--yes")
    assert result.exit_code == 0, result.output
    assert "18 kB of checkpoints" in result.output
    assert not (Settings().checkpoints / "s").exists()
    assert [one.name for one in store.studies()] == [other.name]
    database = Database.open(Settings().database_url)
    counts = {
        name: database.rows(select(func.count()).select_from(table))[0][0]
        for name, table in METADATA.tables.items()
    }
    database.close()
    assert counts.pop("dynafront_study") == 1
    assert set(counts.values()) == {0}


@pytest.mark.slow
def test_optunas_study_goes_too(store: Store) -> None:
    import optuna

    from search.run.optuna_mirror import optuna_storage

    storage = optuna_storage(Settings().optuna_url)
    optuna.create_study(storage=storage, study_name="s").add_trial(
        optuna.trial.create_trial(value=0.5)
    )
    assert dynafront("delete", "s", "--yes").exit_code == 0
    assert storage.get_all_studies() == []


@pytest.mark.slow
def test_runs_in_mlflow_stay_otherwise_and_a_new_study_goes_on_in_them(store: Store) -> None:
    from search.run.view import sync_study
    from storage.mlflow_client import client as mlflow_client

    settings = Settings()
    sync_study(store, settings, store.study("s"))
    text, spec = store.study("s").text, store.study("s").spec
    client, first = mlflow_client(settings), store.study("s")
    assert dynafront("delete", "s", "--yes").exit_code == 0
    runs = client.search_runs([str(first.experiment_id)])
    assert str(first.run_id) in {run.info.run_id for run in runs}
    assert len(runs) > 6, "the trainings' runs stay too"
    store.add_study("s", spec, text, {"accuracy": 0.1, "macs": 1e7})
    sync_study(store, settings, store.study("s"))
    assert store.study("s").run_id == first.run_id


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_runs_in_mlflow_go_where_that_is_asked_for(store: Store) -> None:
    from search.run.view import sync_study
    from storage.mlflow_client import client as mlflow_client

    settings = Settings()
    sync_study(store, settings, store.study("s"))
    text, spec = store.study("s").text, store.study("s").spec
    client = mlflow_client(settings)
    first = store.study("s")
    result = dynafront("delete", "s", "--yes", "--mlflow")
    assert result.exit_code == 0, result.output
    assert client.get_experiment_by_name("dynafront/s") is None
    assert client.get_run(str(first.run_id)).info.lifecycle_stage == "deleted"
    store.add_study("s", spec, text, {"accuracy": 0.1, "macs": 1e7})
    sync_study(store, settings, store.study("s"))
    second = store.study("s")
    assert second.run_id != first.run_id
    runs = client.search_runs([str(second.experiment_id)])
    assert [run.info.run_id for run in runs if run.info.run_name == "study s"] == [second.run_id]


def test_a_study_that_ended_on_a_plateau_is_cleaned(store: Store) -> None:
    spec = store.study("s").spec
    short = {**spec["budget"], "trials": 60}
    store.set_spec("s", spec | {"budget": short}, TEXT)
    assert "6 of 60 trials have ended" in dynafront("clean", "s", "--dry-run").output
    ended = {**short, "plateau": {"trials": 2, "growth": 0.01}}
    store.set_spec("s", spec | {"budget": ended}, TEXT)
    assert "can go, of 2 trainings" in dynafront("clean", "s", "--dry-run").output
