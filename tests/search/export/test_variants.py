"""`export --quantize`: a second file, measured beside the first, and what is said of it."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dynafront as package
from search.export import variants
from search.export.classifier import load_classifier
from search.export.variant_text import variant_lines, variant_rows
from tests.search.conftest import dynafront
from trainers.significance import Share, wilson

SPREAD = {"median": 2.0, "low": 1.9, "high": 2.1}
FOUND: dict[str, Any] = {
    "file": "model-int8.onnx",
    "bytes": 250_000,
    "calibrated_on": 256,
    "test": {"images": 400, "accuracy": 0.895, "accuracy_low": 0.86, "accuracy_high": 0.92}
    | {"macs_mean": 5.1e4, "macs_p95": 6e4},
    "same_answers": 396,
    "difference": {"value": -0.005, "low": -0.012, "high": 0.002},
    "latency_ms": {
        f"batch_{size}": {"variant": SPREAD, "float32": SPREAD, "ratio": 0.52} for size in (1, 64)
    },
}
TEST = {"images": 400, "accuracy": 0.9, "accuracy_low": 0.865, "accuracy_high": 0.925}
REPORT: dict[str, Any] = {
    "test": TEST | {"macs_mean": 5e4, "macs_p95": 6e4},
    "onnx": {"bytes": 1_000_000},
    "variants": {"int8": FOUND},
}


def test_the_card_has_both_files_side_by_side() -> None:
    rows = variant_rows(REPORT, "accuracy")
    assert "| 8-bit integers (int8), on 400 test images | `model-int8.onnx` | float32 |" in rows
    assert "| difference, 95 % interval | -0.5 points [-1.2, +0.2] | |" in rows
    assert "| same class as float32 | 396 of 400 | |" in rows
    assert "| size of the file | 250 kB | 1.00 MB |" in rows
    assert "| MACs an image, mean | 51.0 k | 50.0 k |" in rows
    assert variant_rows({}, "accuracy") == []


def test_a_file_that_is_not_written_says_why() -> None:
    lost = FOUND | {"file": None, "difference": {"value": -0.2, "low": -0.24, "high": -0.16}}
    report = REPORT | {"variants": {"int8": lost}}
    said = "not written: -20.0 points [-24.0, -16.0] to float32 on the test images"
    assert said in "\n".join(variant_lines(report))
    assert "more than 5 points are lost" in "\n".join(variant_rows(report, "accuracy"))


def test_each_format_has_limits_of_its_own() -> None:
    kept = Share(-0.03, -0.04, -0.015)
    fits = {
        name: variants.within(limits, kept, 398, 400) for name, limits in variants.LIMITS.items()
    }
    assert fits == {"int8": True, "float16": False, "bfloat16": True}
    fits = {
        name: variants.within(limits, Share(0, 0, 0), 360, 400)
        for name, limits in variants.LIMITS.items()
    }
    assert fits == {"int8": True, "float16": False, "bfloat16": False}, "other answers, as accurate"


def test_limits_lie_below_what_sampling_makes_of_a_good_file() -> None:
    measured = {
        "int8": 932,
        "float16": 1000,
        "bfloat16": 979,
    }  # of 1,000 images, as docs/export.md says
    for name, same in measured.items():
        assert wilson(same / 1000, 1000)[0] > variants.LIMITS[name].same + 0.01


def test_a_file_with_other_answers_says_so() -> None:
    limits = {"lost": 0.01, "same": 0.99}
    other = FOUND | {"file": None, "same_answers": 300, "limits": limits}
    said = "\n".join(variant_lines(REPORT | {"variants": {"float16": other}}))
    assert "not written: 300 of 400 test images get the same class as in float32, fewer" in said
    assert "than 99%; -0.5 points" in said


@pytest.mark.slow
def test_files_in_16_bits_take_half_the_room_and_answer_alike(
    in_finished: Path, tmp_path: Path
) -> None:
    folder, kinds = tmp_path / "model", ("float16", "bfloat16")
    flags = [part for kind in kinds for part in ("--quantize", kind)]
    result = dynafront("export", "tiny", "--pick", "best", *flags, "--out", folder)
    assert result.exit_code == 0, result.output
    report = json.loads((folder / "model.json").read_text())["report"]
    card = (folder / "README.md").read_text()
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    float32 = package.load(folder)(pixels)
    for kind in kinds:
        found = report["variants"][kind]
        assert found["bytes"] == (folder / f"model-{kind}.onnx").stat().st_size
        assert 0 < found["largest_probability_difference"] < 0.1
        assert f"weights in 16 bits ({kind})" in card
        own = package.load(folder, variant=kind)(pixels)
        assert own.probability != float32.probability
        assert own.probability == pytest.approx(float32.probability, abs=0.05)


@pytest.mark.slow
def test_an_int8_file_is_made_measured_and_answers(in_finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    result = dynafront("export", "tiny", "--pick", "best", "--quantize", "int8", "--out", folder)
    assert result.exit_code == 0, result.output
    assert "  int8      test " in result.output
    found = json.loads((folder / "model.json").read_text())["report"]["variants"]["int8"]
    assert found["file"] == "model-int8.onnx"
    assert found["bytes"] == (folder / "model-int8.onnx").stat().st_size
    assert found["same_answers"] > 0.9 * found["test"]["images"]
    difference = found["difference"]
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert "## Other number formats" in (folder / "README.md").read_text()
    picture = tmp_path / "digit.png"
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    row = json.loads(dynafront("predict", folder, picture, "--variant", "int8", "--json").output)[0]
    own = package.load(folder, variant="int8")(pixels)
    assert (row["class"], row["probability"]) == (own.label, own.probability)
    assert own.probability != package.load(folder)(pixels).probability
    refusals(folder, picture)
    the_card_s_program_says(folder, picture, package.load(folder)(pixels))
    # what an export without it leaves no longer fits
    assert dynafront("export", "tiny", "--out", folder, "--force").exit_code == 0
    assert not (folder / "model-int8.onnx").exists()
    said = dynafront("predict", folder, picture, "--variant", "int8").output
    assert "has the float32 file alone, not int8; dynafront export --quantize int8" in said


def the_card_s_program_says(folder: Path, picture: Path, answer: package.Prediction) -> None:
    """Runs the card's program as printed, in the folder."""
    card = (folder / "README.md").read_text()
    program = card.split("```python\n")[1].split("```")[0]
    shutil.copy(picture, folder / "image.png")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    label, probability = ast.literal_eval(done.stdout)
    assert (label, probability) == (answer.label, pytest.approx(answer.probability, rel=1e-5))
    (folder / "image.png").unlink()


def refusals(folder: Path, picture: Path) -> None:
    """A file that is gone, or another one."""
    file = folder / "model-int8.onnx"
    kept = file.read_bytes()
    shutil.copy(folder / "model.onnx", file)
    with pytest.raises(ValueError, match=r"model-int8.onnx: is damaged"):
        load_classifier(folder, "int8")
    file.unlink()
    said = dynafront("predict", folder, picture, "--variant", "int8").output
    assert "model-int8.onnx: is missing; export the model again" in said
    file.write_bytes(kept)


@pytest.mark.slow
def test_a_file_that_loses_more_than_five_points_is_not_written(
    in_finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(flat: Any, calibration: Any) -> Any:
        return original(flat, [0 * batch for batch in calibration])

    original = variants.int8_model
    monkeypatch.setattr(variants, "int8_model", spoilt)
    folder = tmp_path / "model"
    result = dynafront("export", "tiny", "--pick", "best", "--quantize", "int8", "--out", folder)
    assert result.exit_code == 0, result.output
    assert "  int8      not written: " in result.output
    assert (folder / "model.onnx").exists()
    assert not (folder / "model-int8.onnx").exists()
    assert "not written. " in (folder / "README.md").read_text()
