"""Exported models at a URL: put there whole, read from there, and nothing else is overwritten."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from search.export.extras import QUANTIZED
from search.export.folder import is_exported
from search.export.remote_folder import folder_to_fill, local_folder, put_folder
from storage.remote_store import AwayError
from tests.search.conftest import dynafront


def put(url: str, files: dict[str, str], *, force: bool = False) -> None:
    with folder_to_fill(url, force) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        put_folder(folder, url)


def read(url: str) -> dict[str, str]:
    with local_folder(url) as folder:
        files = (one for one in folder.rglob("*") if one.is_file())
        return {one.relative_to(folder).as_posix(): one.read_text() for one in files}


FILES = {"model.json": "{}", "model.onnx": "o", "inspect/a.png": "p"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/models/mine"


def test_what_is_put_there_is_read_from_there(url: str) -> None:
    put(url, FILES)
    assert read(url) == FILES


def test_an_earlier_export_is_replaced_only_where_that_is_asked_for(url: str) -> None:
    put(url, FILES)
    with pytest.raises(ValueError, match="holds an exported model already; --force overwrites it"):
        put(url, FILES)
    put(url, {"model.json": "{1}"}, force=True)
    assert read(url) == {"model.json": "{1}"}


def test_what_else_lies_there_outlives_a_new_export(url: str) -> None:
    put(url, FILES | {"labels.csv": "mine"})
    put(f"{url}/other", FILES)
    put(url, {"model.json": "{1}", "README.md": "new"}, force=True)
    others = {f"other/{name}": text for name, text in FILES.items()}
    assert read(url) == {"model.json": "{1}", "README.md": "new", "labels.csv": "mine"} | others


@pytest.mark.slow
def test_every_file_of_an_export_is_known_as_one(in_finished: Path, tmp_path: Path) -> None:
    extras = [f"--quantize={one}" for one in QUANTIZED] + ["--format=pt2", "--register"]
    assert dynafront("export", "tiny", "--out", tmp_path / "all", *extras).exit_code == 0
    written = [
        one.relative_to(tmp_path / "all").as_posix() for one in (tmp_path / "all").rglob("*.*")
    ]
    assert len(written) >= 8
    assert [name for name in written if not is_exported(name)] == []


def test_what_is_no_model_is_neither_read_nor_overwritten(url: str, tmp_path: Path) -> None:
    other = tmp_path / "models" / "mine" / "notes.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    for force in (False, True):
        with pytest.raises(ValueError, match="is not empty and holds no exported model"):
            put(url, FILES, force=force)
    with pytest.raises(ValueError, match="holds no exported model; name where"):
        read(url)


def test_one_that_was_cut_off_is_no_model(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.local import LocalFileSystem

    put(url, FILES)
    whole = LocalFileSystem.put_file

    def failing(self: LocalFileSystem, here: str, there: str) -> None:
        if there.endswith(".onnx"):
            raise OSError(5, "the cable is out")
        whole(self, here, there)

    monkeypatch.setattr(LocalFileSystem, "put_file", failing)
    with pytest.raises(AwayError, match="the cable is out"):
        put(url, FILES, force=True)
    with pytest.raises(ValueError, match="holds no exported model"):
        read(url)


@pytest.mark.slow
def test_a_model_is_exported_to_a_url_and_classifies_from_there(
    in_finished: Path, url: str, tmp_path: Path
) -> None:
    result = dynafront("export", "tiny", "--out", url)
    assert result.exit_code == 0, result.output
    assert f"{url}: test accuracy" in result.output
    assert f"dynafront predict {url} IMAGE" in result.output
    assert url in dynafront("status", "tiny").output
    image = tmp_path / "digit.png"
    Image.new("L", (8, 8)).save(image)
    answer = dynafront("predict", url, image, "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.output)[0]["macs"] > 0
    again = dynafront("export", "tiny", "--out", url)
    assert again.exit_code == 2
    assert "holds an exported model already" in again.output


def test_an_error_about_the_copy_names_where_the_model_lies(url: str) -> None:
    put(url, FILES)
    expected = f"^{re.escape(f'{url}: is static, see {url}/README.md')}$"
    with pytest.raises(ValueError, match=expected), local_folder(url) as folder:
        raise ValueError(f"{folder}: is static, see {folder}/README.md")
