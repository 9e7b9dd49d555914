"""Exports as the pages show them: which are listed, and which files leave the server."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from search.service.exported import Exported
from storage.settings import Settings
from storage.store import Store

REPORT = {"metric": "accuracy"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    found.add_study("s", {"budget": {"trials": 4}}, "study: s\n", {"accuracy": 0.1, "macs": 1e6})
    return found


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Exported:
    tracking = "https://me:secret@mlflow.example.org"
    given = {"storage": {"folder": tmp_path / "data"}, "tracking_uri": tracking}
    return Exported(store, Settings.model_validate(given))


def folder_of(store: Store, folder: Path, stored: str) -> int:
    folder.mkdir(parents=True)
    for name in ("model.json", "model.onnx", "README.md", "private.txt"):
        (folder / name).write_text("{}")
    return store.add_export("s", pick="best", folder=stored, report=REPORT, point=3).id


def test_a_model_below_the_data_folder_leaves_with_its_own_files_alone(
    store: Store, exported: Exported, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "exports" / "s"
    identifier = folder_of(store, folder, "{storage.folder}/exports/s")
    (folder / "model.safetensors").symlink_to("/etc/passwd")
    (folder / "inspect").mkdir()
    (folder / "inspect" / "gates.png").write_text("")
    name, content = exported.archive("s", identifier)
    assert name == "s-point-3.zip"
    names = {one.removeprefix("s-point-3/") for one in zipfile.ZipFile(content).namelist()}
    assert names == {"model.json", "model.onnx", "README.md", "inspect/gates.png"}
    content.close()


def test_a_model_elsewhere_stays_there(store: Store, exported: Exported, tmp_path: Path) -> None:
    beyond = tmp_path / "elsewhere"
    identifier = folder_of(store, beyond, str(beyond))
    assert not exported.exports("s")[0]["here"]
    with pytest.raises(ValueError, match="there is no model"):
        exported.archive("s", identifier)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(beyond)
    linked = store.add_export("s", pick="best", folder="{storage.folder}/link", report=REPORT).id
    with pytest.raises(ValueError, match="there is no model"):
        exported.archive("s", linked)
    with pytest.raises(ValueError, match="there is no export 99 of study s"):
        exported.archive("s", 99)


def test_one_that_was_overwritten_is_not_listed(store: Store, exported: Exported) -> None:
    for folder in ("a", "b", "a"):
        last = store.add_export("s", pick="best", folder=folder, report=REPORT)
    assert [one["folder"] for one in exported.exports("s")] == ["a", "b"]
    assert exported.exports("s")[0]["id"] == last.id


def test_the_program_for_the_registry_says_where_it_is_without_a_password(
    exported: Exported, tmp_path: Path
) -> None:
    from search.service.exported import _uses

    program = dict(_uses(tmp_path, "models:/m@best", exported.tracking))["From the MLflow registry"]
    assert "mlflow.set_tracking_uri('https://me:***@mlflow.example.org')" in program
    assert "load_model('models:/m@best')" in program
    assert "From the MLflow registry" not in dict(_uses(tmp_path, None, ""))
