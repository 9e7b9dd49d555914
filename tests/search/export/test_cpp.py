"""The C++ of the docs, compiled and run where ONNX Runtime's headers are there."""

from __future__ import annotations

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

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.ship import onnx_model, ship

DOCS = Path(__file__).parents[3] / "docs" / "export.md"
RELEASE = os.environ.get("DYNAFRONT_TEST_ONNXRUNTIME", "")  # a folder with include/ and lib/
TASK = Task(channels=3, height=8, width=8, classes=3, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.slow
@pytest.mark.skipif(not RELEASE or not shutil.which("g++"), reason="needs g++ and ONNX Runtime")
def test_the_program_in_cpp_says_what_onnxruntime_says(tmp_path: Path) -> None:
    net = Candidate.of(family("gated_resnet"), {"backbone": "resnet8"}, 1).build(TASK, 0).eval()
    compact = ship(net, Knobs(), {gate.name: (0.5,) * gate.units for gate in net.gates})
    (tmp_path / "exported").mkdir()
    file = tmp_path / "exported" / "model.onnx"
    onnx.save(onnx_model(compact, torch.zeros(2, 3, 8, 8)), file)
    found = re.search(r"```cpp\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    (tmp_path / "classify.cpp").write_text(found[1])
    release = Path(RELEASE).resolve()
    flags = [f"-I{release}/include", f"-L{release}/lib", f"-Wl,-rpath,{release}/lib"]
    command = ["g++", "-std=c++17", "classify.cpp", *flags, "-lonnxruntime", "-o", "classify"]
    subprocess.run(command, cwd=tmp_path, check=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    said = []
    for thresholds in ([], [1.0] * len(compact.thresholds)):
        given = {"pixels": np.zeros((1, 3, 8, 8), np.float32)}
        if thresholds:
            given["thresholds"] = np.array(thresholds)
        logits, macs = session.run(None, given)
        done = subprocess.run(
            ["./classify", *map(str, thresholds)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == f"{int(logits.argmax())} {macs[0]:.0f}"
        said.append(done.stdout)
    assert said[0] != said[1], "closed gates take fewer MACs"
