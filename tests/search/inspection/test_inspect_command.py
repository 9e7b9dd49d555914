"""Inspections as a person gets them: from the command, and in MLflow."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pytest
from click.testing import CliRunner

from search.cli import main
from search.front.stored import study_front
from search.report.text import knobs_text, network_text
from search.run.trial_run import shown_point
from storage.records import Kind
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
def test_pictures_in_mlflow_are_of_the_point_that_the_run_shows(in_finished: Path) -> None:
    import mlflow

    folder = in_finished / "dynafront-data"
    store = Store.open(f"sqlite:///{folder}/dynafront.db")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    record = store.study("tiny")
    members = study_front(store, record).members
    elsewhere = 0
    for trial in store.trials("tiny", kind=Kind.SEARCH):
        points = store.points("tiny", trial.kind, trial.number)
        point = shown_point(points, members)
        assert point is not None
        run = client.get_run(str(trial.run_id))
        page = Path(str(run.info.artifact_uri).removeprefix("file://"), "inspect", "inspect.html")
        title = f"{network_text(trial.family, trial.params)}, {knobs_text(point.knobs)}"
        assert escape(f"trial {trial.number}: {title}") in page.read_text()
        assert run.data.metrics["validation accuracy"] == pytest.approx(point.accuracy)
        elsewhere += not point.chosen
    assert elsewhere, "one is on the front at another setting than it was trained for"
    again = CliRunner().invoke(main, ["sync", "tiny"], catch_exceptions=False)
    assert "front drawn" in again.output
    assert "drawing" not in again.output, "nothing is drawn twice"


@pytest.mark.slow
def test_mlflow_shows_what_the_worker_measured(in_finished: Path) -> None:
    import mlflow

    folder = in_finished / "dynafront-data"
    trials = Store.open(f"sqlite:///{folder}/dynafront.db").trials("tiny", kind="search")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    names = {file.path for file in client.list_artifacts(str(trials[0].run_id), "inspect")}
    assert {"inspect/inspect.html", "inspect/class_rates.png"} <= names
