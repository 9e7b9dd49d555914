"""A stored study from Python: what the command line says of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import dynafront
from tests.search.conftest import dynafront as command

pytestmark = pytest.mark.slow


def test_the_front_has_the_rows_and_columns_of_the_csv(here: Path) -> None:
    front = dynafront.study("tiny").front()
    printed = pd.read_csv(io.StringIO(command("front", "tiny", "--format", "csv").stdout))
    assert len(front) > 0
    assert list(front.columns) == list(printed.columns)
    for column in ("accuracy", "accuracy_low", "macs_mean", "parameters", "trial"):
        assert front[column].tolist() == printed[column].tolist()
    assert dynafront.study("tiny").front("gated_resnet")["family"].unique() == ["gated_resnet"]


def test_the_point_is_the_one_that_the_command_exports(here: Path, tmp_path: Path) -> None:
    study = dynafront.study("tiny")
    assert study.best(pick="best").accuracy == study.front()["accuracy"].max()
    fastest = study.best(pick="fastest")
    assert (fastest.macs, fastest.macs_max) == tuple(study.front()[["macs_mean", "macs_max"]].min())
    limited = study.best(max_macs=fastest.macs + 1)
    assert limited.macs <= fastest.macs + 1
    assert limited.choice.rule == "best"
    enough = study.best(min_accuracy=fastest.accuracy)
    assert enough.choice.rule == "fastest"
    assert enough.accuracy >= fastest.accuracy
    low, high = enough.interval
    assert low < enough.accuracy < high
    model = study.best(pick="best").export(tmp_path / "ours", show=False)
    command("export", "tiny", "--pick", "best", "--out", tmp_path / "theirs")
    theirs = dynafront.load(tmp_path / "theirs")
    for key in ("trial", "knobs", "params", "network"):
        assert model.description[key] == theirs.description[key]
    exported = [one["pick"] for one in study.status()["exports"]]
    assert exported[-2:] == ["best", "best"]


def test_an_exported_model_answers_as_predict_does(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = dynafront.study("tiny").best(max_macs=20e6).export(tmp_path / "out")
    assert "test accuracy" in capsys.readouterr().out
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8), dtype=np.uint8)
    file = tmp_path / "x.png"
    Image.fromarray(pixels).save(file)
    (said,) = json.loads(command("predict", tmp_path / "out", file, "--json").stdout)
    expected = (said["class"], said["probability"], said["macs"])
    for image in (file, str(file), Image.fromarray(pixels), pixels):
        assert model(image) == expected
    assert dynafront.load(tmp_path / "out")(pixels).label in model.classes
    with pytest.raises(ValueError, match="holds an exported model already"):
        dynafront.study("tiny").best().export(tmp_path / "out", show=False)


def test_nothing_is_printed_when_nothing_is_to_be_shown(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dynafront.study("tiny").best().export(tmp_path / "out", show=False)
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


def test_mistakes_are_values_errors_of_one_line(here: Path) -> None:
    for call, message in (
        (lambda: dynafront.study("tinny"), "there is no study tinny .*did you mean tiny"),
        (lambda: dynafront.study("tiny").front("timm"), "study tiny searches gated_resnet"),
        (lambda: dynafront.study("tiny").best(max_macs=3), "no point costs <= 3 MACs"),
        (lambda: dynafront.study("tiny").best(max_macs="many"), "is not a number of MACs"),
        (lambda: dynafront.study("tiny").best(pick="cheap"), "choose one of efficient"),
        (lambda: dynafront.load("nowhere"), "nowhere"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_studies_and_their_words(here: Path) -> None:
    (study,) = dynafront.studies()
    assert study == dynafront.study("tiny")
    assert repr(study).startswith("Study('tiny'): ")
    assert "on the front" in repr(study)
    assert "MACs, gated_resnet resnet8" in repr(study.best(pick="fastest"))
    assert study.status()["trials"]["budget"] == 3


def test_looking_and_picking_load_nothing_that_trains(here: Path) -> None:
    program = (
        "import sys, dynafront\nstudy = dynafront.study('tiny')\n"
        "study, study.front(), study.status(), study.best(), study.plot()\n"
        "print(*{'torch', 'mlflow', 'optuna', 'matplotlib'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_a_registered_model_is_loaded_by_its_address(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(here / "dynafront-data", "data")
    Path("mlflow.yml").write_text(f"storage: {{folder: {tmp_path / 'data'}}}\n")
    pixels = np.full((8, 8), 90, np.uint8)
    exported = dynafront.study("tiny").best(pick="best").export("out", register=True, show=False)
    assert dynafront.load("models:/dynafront-tiny@best")(pixels) == exported(pixels)


def test_settings_say_where_studies_are(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(here / "dynafront-data", tmp_path / "elsewhere")
    (tmp_path / "own.yml").write_text(f"storage: {{folder: {tmp_path / 'elsewhere'}}}\n")
    monkeypatch.chdir(tmp_path)
    assert dynafront.studies() == []
    own = str(tmp_path / "own.yml")
    assert [study.name for study in dynafront.studies(settings=own)] == ["tiny"]
    study = dynafront.study("tiny", settings=Path(own))
    assert len(study.front()) > 0
    assert dynafront.studies(settings=study.settings) == [study]
    with pytest.raises(ValueError, match=r"gone\.yml: cannot be read"):
        dynafront.studies(settings="gone.yml")
