"""`export --register`, whatever was done to MLflow before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from storage.settings import Settings
from storage.store import Store
from tests.search.conftest import dynafront

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
MODEL = "dynafront-tiny"


@pytest.fixture
def data(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the searched study, to be treated roughly."""
    shutil.copytree(finished / "dynafront-data", tmp_path / "dynafront-data")
    monkeypatch.chdir(tmp_path)
    # a whole path: MLflow keeps a process's connections by address, and those of other tests lie elsewhere
    Path("mlflow.yml").write_text(f"storage: {{folder: {tmp_path / 'dynafront-data'}}}\n")
    assert dynafront("sync", "tiny").exit_code == 0
    return tmp_path / "dynafront-data"


def registered(data: Path) -> dict[str, str]:
    """The tags of the run in which the one registered version lies."""
    settings = Settings.model_validate({"storage": {"folder": data}})
    client = MlflowClient(settings.tracking_uri)
    (version,) = client.search_model_versions(f"name='{MODEL}'")
    run = client.get_run(str(version.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] > 0
    store = Store.open(settings.database_url)
    study = store.study("tiny")
    store.close()
    assert run.data.tags["mlflow.parentRunId"] == study.run_id
    assert client.get_run(str(study.run_id)).info.status == "FINISHED"
    return dict(run.data.tags)


def test_what_a_user_set_for_own_runs_has_no_say(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(f"sqlite:///{data / 'mlflow.db'}")
    own = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", own.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "99")
    monkeypatch.setenv("_MLFLOW_ACTIVE_MODEL_ID", "m-1")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    result = dynafront("export", "tiny", "--register")
    assert result.exit_code == 0, result.output
    assert registered(data)["automl.kind"] == "export"
    after = client.get_run(own.info.run_id)
    assert (after.data.metrics, after.info.status) == ({}, "RUNNING")
    assert os.environ["MLFLOW_RUN_ID"] == own.info.run_id


def test_where_the_experiment_is_deleted_it_comes_back(data: Path) -> None:
    client = MlflowClient(f"sqlite:///{data / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("dynafront/tiny")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    result = dynafront("export", "tiny", "--register")
    assert result.exit_code == 0, result.output
    registered(data)


def test_where_mlflow_is_gone_the_study_and_later_its_trials_are_made_anew(data: Path) -> None:
    # another name: this process still holds the one that was removed
    with Path("mlflow.yml").open("a") as file:
        file.write(f"tracking_uri: sqlite:///{data / 'new.db'}\n")
    result = dynafront("export", "tiny", "--register")
    assert result.exit_code == 0, result.output
    assert "7 trials brought to MLflow" in dynafront("sync", "tiny").output


def test_a_failed_registration_leaves_the_export_and_says_how_to_go_on(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = dynafront("export", "tiny", "--register")
    assert result.exit_code == 1
    assert "exported is exported, but not registered: MLflow at http://127.0.0.1:9" in result.output
    assert "the same command with --force tries again" in result.output
    assert Path("exported", "model.onnx").exists()
    assert "exported efficient: exported" in dynafront("status", "tiny").output
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert dynafront("export", "tiny", "--register", "--force").exit_code == 0
    registered(data)
