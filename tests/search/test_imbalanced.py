"""A study of images of which nine in ten are of one class, searched by balanced accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score

from search.cli import main
from storage.records import Kind
from storage.store import Store
from trainers.by_class import unpacked

STUDY = """\
study: eights
data: folder:images
families: [gated_features]
space: {gated_features: {hidden: 64, batch: 32, augment: false}}
objectives: [balanced_accuracy, macs]
class_weights: balanced
budget: {trials: 2, epochs: 8}
validation: 0.3
run: {workers: 0, threads: 1, device: cpu, precision: float32}
"""


def dynafront(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits in two classes, eights and all others, every fifth image for test."""
    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    for i, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "train" if i % 5 else "test"
        name = "eight" if digit == 8 else "other"
        file = Path("images", part, name, f"{i}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(file)


@pytest.mark.slow
@pytest.mark.usefixtures("images")
def test_a_search_by_balanced_accuracy_ships_no_network_that_always_answers_one_class() -> None:
    Path("eights.yml").write_text(STUDY)
    found = dynafront("search", "eights.yml")
    assert found.exit_code == 0, found.output
    assert "Always answering other has 50.0% balanced accuracy" in found.output
    store = Store.open("sqlite:///dynafront-data/dynafront.db")
    assert store.study("eights").reference["accuracy"] == 0.5
    assert store.data("eights")["majority"] == 0.5
    points = store.with_answers(store.points("eights", kind=Kind.SEARCH))
    for p in points:
        assert p.metric == "balanced_accuracy"
        if p.right is not None:
            assert p.accuracy == pytest.approx(balanced_accuracy_score(*unpacked(p.right)))
    epoch = store.epochs("eights", Kind.BASELINE, 0)[-1].metrics
    assert epoch["val/accuracy"] != epoch["val/balanced_accuracy"]
    table = dynafront("front", "eights", "--format", "json")
    assert all(row["accuracy_low"] > 0.5 for row in json.loads(table.output)["points"])

    result = dynafront("export", "eights")
    assert result.exit_code == 0, result.output
    assert "exported: test balanced accuracy " in result.output
    report = json.loads(Path("exported/model.json").read_text())["report"]
    assert report["metric"] == "balanced_accuracy"
    assert report["test"]["accuracy_low"] > 0.5
    assert report["test"]["top1"] * 360 == pytest.approx(round(report["test"]["top1"] * 360))
    assert "| top-1 accuracy | " in Path("exported/README.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("images")
def test_what_the_images_do_not_allow_is_one_line_and_stores_nothing() -> None:
    Path("eights.yml").write_text(STUDY.replace("balanced_accuracy, macs", "top5_accuracy, macs"))
    found = dynafront("search", "eights.yml")
    assert found.exit_code == 2
    (line,) = [line for line in found.output.splitlines() if line.startswith("Error")]
    assert "objectives: top5_accuracy: needs images of 6 classes or more, and there are 2" in line
    assert not Path("dynafront-data").exists()
