"""Inspections as a person gets them: from the command, and in MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from search.cli import main
from storage.store import Store


@pytest.mark.slow
def test_inspect_writes_pictures_and_a_page(in_finished: Path, tmp_path: Path) -> None:
    arguments = ["inspect", "tiny", "--trial", "0", "--out", str(tmp_path / "seen")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    files = {path.name for path in (tmp_path / "seen").iterdir()}
    assert {"inspect.html", "class_rates.png", "gate_rates.png"} <= files
    assert "validation images" in result.output
    both = CliRunner().invoke(main, ["inspect", "tiny", "--trial", "0", "--pick", "best"])
    assert both.exit_code == 2
    assert "either --trial or --pick" in both.output


@pytest.mark.slow
def test_mlflow_shows_what_the_worker_measured(in_finished: Path) -> None:
    import mlflow

    folder = in_finished / "dynafront-data"
    trials = Store.open(f"sqlite:///{folder}/dynafront.db").trials("tiny", kind="search")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    names = {file.path for file in client.list_artifacts(str(trials[0].run_id), "inspect")}
    assert {"inspect/inspect.html", "inspect/class_rates.png"} <= names
