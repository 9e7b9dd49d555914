"""`export --format pt2`: a program that needs torch alone, compared and timed; what the card says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dynafront as package
from tests.search.conftest import dynafront


@pytest.mark.slow
def test_the_card_s_second_program_runs_with_torch_alone(in_finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    result = dynafront("export", "tiny", "--pick", "best", "--format", "pt2", "--out", folder)
    assert result.exit_code == 0, result.output
    assert "  model.pt2 360 test images logits are within " in result.output
    found = json.loads((folder / "model.json").read_text())["report"]["pt2"]
    assert found["largest_logit_difference"] < 1e-3
    assert found["decided_by_rounding"] <= 1
    assert (folder / "model.onnx").exists()
    program = (folder / "README.md").read_text().split("```python\n")[2].split("```")[0]
    alone = [sys.executable, "-I", "-c", program]  # -I: this project's folders are not found
    done = subprocess.run(alone, cwd=folder, capture_output=True, text=True, check=True)
    answer = package.load(folder)(np.zeros((8, 8), np.uint8))
    assert done.stdout.split() == [answer.label, str(answer.macs)]
    # what an export without it leaves no longer fits
    assert dynafront("export", "tiny", "--out", folder, "--force").exit_code == 0
    assert not (folder / "model.pt2").exists()
