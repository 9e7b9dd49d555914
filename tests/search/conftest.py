"""A small study that is searched once for all tests that look at a finished one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from search.cli import main

TINY = """\
study: tiny
data: digits
families: [gated_resnet]
space:
  gated_resnet: {backbone: resnet8, width: 0.25, batch: 32, gate: dependent}
budget: {trials: 3, epochs: 2}
train_limit: 256
run: {precision: float32, threads: 1}
"""


def dynafront(*arguments: str | Path) -> Result:
    """The command as a person runs it, in the current folder."""
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny study has been searched, baselines and MLflow included."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = dynafront("search", "tiny.yml", "--baselines")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def in_finished(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished)
    return finished


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights as a training elsewhere leaves them."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), file)
    return file
