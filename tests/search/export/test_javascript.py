"""The JavaScript of the docs, run by Node where it is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from search.export.folder import MODEL, ONNX
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.ship import onnx_model, ship

DOCS = Path(__file__).parents[3] / "docs" / "export.md"
TASK = Task(channels=3, height=8, width=8, classes=3, mean=(0.5,) * 3, std=(0.25,) * 3)
MODULES = os.environ.get("DYNAFRONT_TEST_NODE_MODULES", "")


@pytest.mark.slow
@pytest.mark.skipif(not MODULES or not shutil.which("node"), reason="needs onnxruntime-web")
@pytest.mark.parametrize("busy", [False, True])
def test_the_program_for_javascript_says_what_onnxruntime_says(tmp_path: Path, busy: bool) -> None:
    net = Candidate.of(family("gated_resnet"), {"backbone": "resnet8"}, 1).build(TASK, 0).eval()
    compact = ship(net, Knobs(), {gate.name: (0.5,) * gate.units for gate in net.gates})
    folder = tmp_path / "exported"
    folder.mkdir()
    onnx.save(onnx_model(compact, torch.zeros(2, 3, 8, 8)), folder / ONNX)
    count = len(compact.thresholds)
    # the cheapest point closes every gate
    points = [
        {"chosen": False, "thresholds": [1.0] * count},
        {"chosen": True, "thresholds": list(compact.thresholds.values())},
    ]
    description = {"classes": ["cat", "dog", "hat"], "task": TASK.as_dict(), "points": points}
    (folder / MODEL).write_text(json.dumps(description))
    found = re.search(r"```javascript\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    (tmp_path / "run.mjs").write_text(
        found[1].replace("busy = false", f"busy = {str(busy).lower()}")
    )
    (tmp_path / "node_modules").symlink_to(Path(MODULES).resolve())
    done = subprocess.run(
        ["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    thresholds = np.array(points[not busy]["thresholds"])
    given = {"pixels": np.zeros((1, 3, 8, 8), np.float32), "thresholds": thresholds}
    logits, macs = session.run(None, given)
    expected = f"{description['classes'][int(logits.argmax())]} {macs[0]:.0f}"
    assert done.stdout.strip() == expected
