"""`predict` as people use it: many files, folders, names from a pipe, registered models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from search.cli import main
from search.export.folder import MODEL, ONNX, WEIGHTS
from tests.search.conftest import dynafront
from tests.search.export.test_classifier import folder  # noqa: F401


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """An exported model in `model/`, images at several depths, one of them broken."""
    monkeypatch.chdir(folder)
    Path("model").mkdir()
    for file in (MODEL, WEIGHTS, ONNX):
        Path(file).rename(Path("model", file))
    for name in ("photos/b.png", "photos/deep/er/a.PNG", "photos/.hidden/c.png", "one.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (200, 10, 30)).save(name)
    Path("photos/notes.txt").write_text("no image")
    Path("broken.png").write_text("no image either")
    return folder


def with_input(text: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, input=text, catch_exceptions=False)


def images(result: Result) -> list[str]:
    return [line.partition(":")[0] for line in result.stdout.splitlines()]


def test_one_bad_file_of_many_is_named_and_the_others_are_answered(here: Path) -> None:
    result = dynafront("predict", "model", "one.png", "broken.png", "gone.png", "photos/b.png")
    assert result.exit_code == 1
    assert images(result) == ["one.png", "photos/b.png"]
    bad = result.stderr.splitlines()
    assert len(bad) == 2
    assert bad[0].startswith("broken.png: not an image that can be read")
    assert bad[1].startswith("gone.png: ")


def test_json_holds_the_bad_file_too(here: Path) -> None:
    result = dynafront("predict", "model", "one.png", "broken.png", "photos/b.png", "--json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [row["image"] for row in rows] == ["one.png", "broken.png", "photos/b.png"]
    assert [set(row) for row in rows] == [
        {"image", "class", "probability", "macs"},
        {"image", "error"},
        {"image", "class", "probability", "macs"},
    ]


def test_a_folder_stands_for_its_images_at_any_depth(here: Path) -> None:
    result = dynafront("predict", "model", "photos", "one.png")
    assert result.exit_code == 0
    assert images(result) == ["photos/b.png", "photos/deep/er/a.PNG", "one.png"]


def test_a_folder_without_images_is_named(here: Path) -> None:
    Path("texts").mkdir()
    Path("texts/a.txt").touch()
    result = dynafront("predict", "model", "texts", "one.png")
    assert result.exit_code == 1
    assert result.stderr == "texts: holds no images (1 file .txt)\n"
    assert images(result) == ["one.png"]


def test_a_dash_stands_for_names_on_standard_input(here: Path) -> None:
    result = with_input("photos\r\n\none.png\n", "predict", "model", "-")
    assert result.exit_code == 0
    assert images(result) == ["photos/b.png", "photos/deep/er/a.PNG", "one.png"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_a_registered_model_is_meant_by_its_address(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "dynafront-data", "data")
    Path("mlflow.yml").write_text(f"storage: {{folder: {tmp_path / 'data'}}}\n")
    assert dynafront("export", "tiny", "--pick", "best", "--register").exit_code == 0
    Image.new("L", (8, 8), 100).save("x.png")
    expected = dynafront("predict", "exported", "x.png").stdout
    shutil.rmtree("exported")
    for address in ("models:/dynafront-tiny@best", "models:/dynafront-tiny/1"):
        result = dynafront("predict", address, "x.png")
        assert (result.stdout, result.exit_code) == (expected, 0)
    unknown = dynafront("predict", "models:/dynafront-tiny@worst", "x.png")
    assert unknown.exit_code == 1
    assert "worst" in unknown.output
    assert len(unknown.output.splitlines()) == 1
    assert "write models:/NAME@ALIAS" in dynafront("predict", "models:/tiny", "x.png").output
