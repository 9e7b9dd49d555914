"""A model.json that was edited by hand, or files of two exports in one folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.export.classifier import OnnxClassifier, load_classifier
from search.export.description import CHECKSUMS, checksums
from search.export.folder import MODEL, ONNX, WEIGHTS
from search.export.model import load_exported
from tests.search.export.test_classifier import folder  # noqa: F401

Edit = Callable[[dict[str, Any]], object]
EDITS: dict[str, tuple[Edit, str]] = {
    "fewer classes": (
        lambda d: d["classes"].pop(),
        "classes: has 2 names, the network 3 classes",
    ),
    "fewer classes of the task too": (
        lambda d: (d["classes"].pop(), d["task"].update(classes=2)),
        "",
    ),
    "another height": (lambda d: d["task"].update(height=16), ""),
    "a height that is none": (lambda d: d["task"].update(height=0), r"task\.height: "),
    "a height in words": (lambda d: d["task"].update(height="8"), r"task\.height: "),
    "no task": (lambda d: d.pop("task"), "task: Field required"),
    "a name that is a number": (lambda d: d.update(classes=[1, 2, 3]), r"classes\.0: "),
    "another resizing": (
        lambda d: d.update(preprocessing={"resize": "stretch"}),
        r"preprocessing\.resize: 'stretch' is none of crop, pad, squash",
    ),
}


@pytest.fixture
def exported(folder: Path) -> Path:  # noqa: F811
    """An exported model with its checksums."""
    edit(folder, lambda d: d.update({CHECKSUMS: checksums(folder, (WEIGHTS, ONNX), d)}))
    return folder


def edit(where: Path, change: Edit) -> None:
    description = json.loads((where / MODEL).read_text())
    change(description)
    (where / MODEL).write_text(json.dumps(description))


@pytest.mark.parametrize("load", [load_classifier, load_exported])
@pytest.mark.parametrize(("change", "message"), EDITS.values(), ids=EDITS)
def test_what_no_longer_fits_the_network_is_told_on_loading(
    exported: Path, load: Callable[[Path], object], change: Edit, message: str
) -> None:
    edit(exported, change)
    with pytest.raises(ValueError, match=message or "is not what the network") as told:
        load(exported)
    assert str(told.value).startswith(f"{exported / MODEL}: ")
    assert str(told.value).endswith("export the model again")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["task"].update(height=16), "images of 3 x 8 x 8, model.json says 3 x 16 x 8"),
        (
            lambda d: (d["classes"].pop(), d["task"].update(classes=2)),
            "classes of 3, model.json says 2",
        ),
    ],
)
def test_an_export_from_before_checksums_is_compared_with_its_graph(
    folder: Path,  # noqa: F811
    change: Edit,
    message: str,
) -> None:
    assert isinstance(load_classifier(folder), OnnxClassifier)
    assert load_exported(folder)
    edit(folder, change)
    with pytest.raises(ValueError, match=message):
        load_classifier(folder)


def test_names_of_classes_may_be_changed(exported: Path) -> None:
    edit(exported, lambda d: d.update(classes=["猫", "b", "c"]))
    assert load_classifier(exported).predict(exported / "image.png")[0] in ("猫", "b", "c")


@pytest.mark.parametrize("name", [WEIGHTS, ONNX])
def test_a_file_of_another_export_is_told(exported: Path, name: str) -> None:
    content = bytearray((exported / name).read_bytes())
    content[-1] ^= 1
    (exported / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: is damaged, or of another export than model"):
        (load_exported if name == WEIGHTS else load_classifier)(exported)


def test_a_byte_order_mark_is_no_damage(exported: Path) -> None:
    (exported / MODEL).write_bytes(b"\xef\xbb\xbf" + (exported / MODEL).read_bytes())
    assert load_classifier(exported)


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"[]", b"{}", b"", b'{"format": 2'])
def test_what_is_no_description_is_damaged(exported: Path, content: bytes) -> None:
    (exported / MODEL).write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.json: is damaged; export the model again"):
        load_classifier(exported)
