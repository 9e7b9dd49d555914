"""dynafront merge: trainings of one setting, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from search.cli import main

COPIES = """
study: copies
data: digits
families: [shuffled_vit]
space: {shuffled_vit: {dim: 32, head_dim: 16, mlp_ratio: 1, batch: 32}}
trials: [{layers: 3}, {layers: 2}]
repeats: 2
train_limit: 64
warm_start: false
early_stopping: false
cascades: false
budget: {epochs: 1}
run: {workers: 0, precision: float32}
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.slow
def test_trainings_of_one_setting_are_merged_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("copies.yml").write_text(COPIES)
    assert run("search", "copies.yml").exit_code == 0
    found = run("merge", "copies", "--models", "3", "--trial", "0", "--trial", "2")
    assert found.exit_code == 0, found.output
    written = json.loads(Path("merged.json").read_text())
    assert written["trials"] == [0, 2], "both of three layers"
    assert len(written["donors"]) == len(written["merged"]["arbitrary"]) == 3
    assert all(set(draw) == {0, 1} for draw in written["donors"])
    assert len(written["alone"]["sequential"]) == 2
    assert len(written["ensemble"]["sequential"]) == 1
    usual = run("merge", "copies", "--models", "1", "--out", "usual.json")
    assert usual.exit_code == 0
    assert json.loads(Path("usual.json").read_text())["trials"] == [0, 2]

    for words, reason in (
        (["--trial", "0", "--trial", "1"], "differ in their parameters"),
        (["--trial", "0", "--trial", "9"], "--trial: trial 9 of study copies is not complete"),
        (["--trial", "0"], "no two trainings of one setting"),
    ):
        refused = run("merge", "copies", *words)
        assert refused.exit_code == 2
        assert reason in refused.output
