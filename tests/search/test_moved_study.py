"""A study's folder, moved or copied, goes on by itself and leaves the original alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


def command(folder: Path, *arguments: str) -> str:
    """What the command prints in a process of its own: MLflow keeps connections by address."""
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file that a person would miss: SQLite's own companions come and go."""
    files = [f for f in folder.rglob("*") if f.is_file() and not f.name.endswith(("-wal", "-shm"))]
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def addresses(folder: Path) -> list[str]:
    """Where MLflow says that the files of the study lie: experiment, runs, registered models."""
    client = MlflowClient(f"sqlite:///{folder / 'dynafront-data' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("dynafront/tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs = [run for run in found if "automl.point" not in run.data.tags]  # those have no files
    versions = client.search_model_versions("name='dynafront-tiny'")
    files = [client.get_model_version_download_uri(v.name, v.version) for v in versions]
    return [experiment.artifact_location, *(str(run.info.artifact_uri) for run in runs), *files]


def all_lie_in(folder: Path) -> None:
    """Every address is of something that exists below the folder."""
    found = addresses(folder)
    assert len(found) > 8
    assert all(uri.startswith(folder.as_uri()) for uri in found)
    missing = [
        uri for uri in found if not Path(uri.removeprefix("file://").replace("%20", " ")).is_dir()
    ]
    assert not missing


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose study has an export inside its data folder, registered in MLflow."""
    project = tmp_path_factory.mktemp("moved") / "first"
    shutil.copytree(finished, project)
    command(project, "sync")
    command(project, "export", "tiny", "--register", "--out", "dynafront-data/exports/knee")
    assert all(uri.startswith(project.as_uri()) for uri in addresses(project))
    return project


def test_a_copy_searches_on_exports_and_syncs_and_leaves_the_original_alone(
    project: Path, tmp_path: Path
) -> None:
    new = tmp_path / "a new place"
    shutil.copytree(project, new)
    before = fingerprint(project)
    file = new / "tiny.yml"
    file.write_text(file.read_text().replace("trials: 3", "trials: 4"))
    trained = command(new, "search", "tiny.yml", "--workers", "0")
    assert "4 of 4 trials done" in trained
    assert "again" not in trained
    assert "dynafront-data/exports/knee" in command(new, "status", "tiny", "--json")
    command(new, "export", "tiny", "--register", "--force", "--out", "dynafront-data/exports/knee")
    assert fingerprint(project) == before
    all_lie_in(new)


def test_an_artifact_root_that_was_changed_takes_new_runs_and_leaves_the_old_where_they_are(
    project: Path, tmp_path: Path
) -> None:
    given = project / "mlflow.yml"
    given.write_text(f"artifact_root: {tmp_path / 'artifacts'}\n")
    command(project, "sync")
    given.unlink()
    experiment, *runs = addresses(project)
    assert experiment.startswith((tmp_path / "artifacts").as_uri())
    assert all(Path(uri.removeprefix("file://")).is_dir() for uri in runs)
    assert all(uri.startswith(project.as_uri()) for uri in runs)


def test_sync_repairs_a_moved_store(project: Path, tmp_path: Path) -> None:
    new = tmp_path / "moved"
    project.rename(new)
    try:
        assert "0 trials brought" in command(new, "sync")
        all_lie_in(new)
    finally:
        new.rename(project)
