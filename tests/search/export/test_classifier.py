"""Which file of an exported folder `predict` runs, and what it says where that file is damaged or old."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from search.export.classifier import OnnxClassifier, load_classifier
from search.export.folder import FORMAT, MODEL, ONNX, WEIGHTS
from search.export.model import Model, load_exported
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.ship import onnx_model, ship
from storage.weights_file import save_weights

TASK = Task(channels=3, height=8, width=8, classes=3, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported model with random weights, and an image."""
    candidate = Candidate.of(family("gated_resnet"), {"backbone": "resnet8", "width": 0.25}, 1)
    net = candidate.build(TASK, 0).eval()
    compact = ship(net, Knobs(), {gate.name: (0.5,) * gate.units for gate in net.gates})
    onnx.save(onnx_model(compact, torch.zeros(2, 3, 8, 8)), tmp_path / ONNX)
    save_weights({k: v.contiguous() for k, v in compact.state_dict().items()}, tmp_path / WEIGHTS)
    description = {
        "format": FORMAT,
        "family": "gated_resnet",
        "config": asdict(candidate.config),
        "task": TASK.as_dict(),
        "classes": ["cat", "dog", "hat"],
        "network": compact.description(),
    }
    (tmp_path / MODEL).write_text(json.dumps(description))
    pixels = np.random.default_rng(0).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path


def test_onnxruntime_says_what_torch_says(folder: Path) -> None:
    fast, slow = load_classifier(folder), load_exported(folder)
    assert isinstance(fast, OnnxClassifier)
    label, probability, macs = slow.predict(folder / "image.png")
    assert fast.predict(folder / "image.png") == (label, pytest.approx(probability, rel=1e-4), macs)


def test_a_folder_whose_onnx_file_does_not_say_macs_is_run_in_torch(folder: Path) -> None:
    model = onnx.load(folder / ONNX)
    (macs,) = (output for output in model.graph.output if output.name == "macs")
    model.graph.output.remove(macs)
    onnx.save(model, folder / ONNX)
    assert isinstance(load_classifier(folder), Model)


def test_a_folder_without_an_onnx_file_is_run_in_torch(folder: Path) -> None:
    (folder / ONNX).unlink()
    assert isinstance(load_classifier(folder), Model)


@pytest.mark.parametrize("kept", [0, 1000])
def test_a_damaged_onnx_file_is_named_in_one_line(folder: Path, kept: int) -> None:
    (folder / ONNX).write_bytes((folder / ONNX).read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"does not hold together .*; export the model again"):
        load_classifier(folder)


def test_a_broken_image_is_named(folder: Path) -> None:
    (folder / "image.png").write_text("no image")
    with pytest.raises(ValueError, match=r"image\.png: not an image that can be read"):
        load_classifier(folder).predict(folder / "image.png")
