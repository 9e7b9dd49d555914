"""Searching from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import dynafront
from search.run.engine import InProcess
from tests.search.conftest import TINY

KEYS: dict[str, Any] = yaml.safe_load(TINY)
HEAVY = ("torch", "mlflow", "optuna", "pandas", "plotly", "onnxruntime", "sqlalchemy", "pyarrow")


def test_importing_dynafront_loads_nothing_heavy() -> None:
    program = f"import sys, dynafront; print(*({HEAVY!r} & sys.modules.keys()))"
    program = program.replace(repr(HEAVY), repr(set(HEAVY)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.strip() == ""


def test_its_error_is_the_stores() -> None:
    from storage.errors import StorageError

    assert dynafront.StorageError is StorageError
    with pytest.raises(AttributeError, match="no attribute 'StudySpec'"):
        _ = dynafront.StudySpec


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"families": "digits"}, r"^search\(\): families"),
        ({"data": "digit"}, r"^search\(\): data: .*is not a data set"),
        ({"budgt": {}}, r"^search\(\): budgt"),
        ({"data": 3}, r"data: is a int: give data=\(train, test\)"),
        ({"data": Path("nowhere")}, r"^search\(\): data: folder:nowhere: .*does not exist"),
        ({"seed": np.int64(3)}, r"^search\(\): seed: has a int64 .* give plain numbers"),
        ({"workers": -1}, r"^search\(\): workers: -1 is less than 0"),
        ({"file": "x.yml"}, r"^search\(\): study, data, families.* and a study file"),
    ],
)
def test_a_mistake_names_the_key(
    keys: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        dynafront.search(**{**KEYS, **keys})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"photos\.yml: cannot be read"):
        dynafront.search(tmp_path / "photos.yml")


@pytest.mark.slow
def test_keywords_and_a_file_are_the_same_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = dynafront.search(**KEYS, workers=0)
    assert "3 of 3 trials done" in capsys.readouterr().out
    assert study == dynafront.study("tiny")
    assert study.status()["trials"]["by_state"] == {"complete": 3}
    (tmp_path / "tiny.yml").write_text(TINY.replace("trials: 3", "trials: 4"))
    again = dynafront.search("tiny.yml", workers=0, show=False)
    assert again == study
    assert again.status()["trials"]["by_state"] == {"complete": 4}
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.slow
def test_an_interrupt_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    left, real = [40], InProcess.next_event

    def next_event(self: InProcess, timeout: float) -> Any:
        left[0] -= 1
        if left[0] == 30:
            raise KeyboardInterrupt
        return real(self, timeout)

    monkeypatch.setattr(InProcess, "next_event", next_event)
    with pytest.raises(KeyboardInterrupt):
        dynafront.search(**KEYS, workers=0)
    assert "Nothing is lost: the same call goes on" in capsys.readouterr().out
    study = dynafront.search(**KEYS, workers=0, show=False)
    assert study.status()["trials"]["by_state"] == {"complete": 3}


@pytest.mark.slow
def test_a_script_without_a_main_guard_searches_once(tmp_path: Path) -> None:
    """Worker processes must not run the script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import dynafront\nprint('begun')\n"
        f"study = dynafront.search(**{KEYS!r}, workers=2)\n"
        "print(study.status()['trials']['by_state'])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("begun") == 1
    assert done.stdout.rstrip().endswith("{'complete': 3}")
