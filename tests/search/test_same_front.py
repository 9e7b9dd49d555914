"""The same study file gives the same front, to the last bit, and exported files that the umask lets others read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.search.conftest import TINY, dynafront

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


def searched(folder: Path, text: str, patch: pytest.MonkeyPatch) -> Any:
    """The front after a search of this study file in the folder."""
    folder.mkdir(exist_ok=True)
    patch.chdir(folder)
    Path("tiny.yml").write_text(text)
    Path("mlflow.yml").write_text(f"storage: {{folder: {folder / 'data'}}}\n")
    result = dynafront("search", "tiny.yml", "--workers", "0")
    assert result.exit_code == 0, result.output
    return json.loads(dynafront("front", "tiny", "--format", "json").stdout)


def test_two_fresh_searches_in_float32_give_equal_fronts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = searched(tmp_path / "a", TINY, monkeypatch)
    assert first["points"]
    assert searched(tmp_path / "b", TINY, monkeypatch) == first


def test_two_searches_with_the_same_stored_number_format_give_equal_fronts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TINY.replace("precision: float32", "precision: auto")
    begun = text.replace("trials: 3", "trials: 1")
    searched(tmp_path / "a", begun, monkeypatch)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = searched(tmp_path / "a", text, monkeypatch)
    assert searched(tmp_path / "b", text, monkeypatch) == first


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_who_may_read_an_export_follows_the_umask(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int, mode: int
) -> None:
    monkeypatch.chdir(finished)
    before = os.umask(umask)
    try:
        result = dynafront("export", "tiny", "--out", tmp_path / "new" / "model")
    finally:
        os.umask(before)
    assert result.exit_code == 0, result.output
    files = {f.name: f.stat().st_mode & 0o777 for f in (tmp_path / "new" / "model").iterdir()}
    assert files == dict.fromkeys(
        ("model.json", "model.onnx", "model.safetensors", "README.md"), mode
    )
    folders = (tmp_path / "new", tmp_path / "new" / "model")
    assert all(f.stat().st_mode & 0o777 == 0o777 & ~umask for f in folders)
