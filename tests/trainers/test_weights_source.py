"""However a training script wrapped its weights: they are found, and nothing in the file is executed."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainers.weights_source import tensors_of

State = dict[str, Tensor]
OTHER: State = {"a.weight": torch.full((2,), 9.0)}


def net() -> nn.Module:
    return nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.BatchNorm1d(3)))


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def averaged(state: State) -> State:
    model = net()
    model.load_state_dict(state)
    return AveragedModel(model).state_dict()


WRAPPED: dict[str, Callable[[State], Any]] = {
    "alone": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {}}},
    "timm with an average": lambda s: {"state_dict": OTHER, "state_dict_ema": s},
    "deit with an average": lambda s: {"model": OTHER, "model_ema": s},
    "an average in a module": lambda s: {"model_ema": {"module": s, "updates": 7}},
    "nested": lambda s: {"model": {"state_dict": prefixed(s, "module.")}},
    "data parallel": lambda s: prefixed(s, "module."),
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "compiled and data parallel": lambda s: prefixed(s, "_orig_mod.module."),
    "swa": averaged,
    "swa in a checkpoint": lambda s: {"model": averaged(s)},
    "lightning": lambda s: {"state_dict": prefixed(s, "model.") | {"criterion.w": torch.ones(2)}},
    "lightning, compiled": lambda s: {"state_dict": prefixed(s, "model._orig_mod.")},
    "ours": lambda s: prefixed(s, "net.") | prefixed(s, "exp_avg.") | prefixed(s, "exp_avg_sq."),
    "counters of a profiler": lambda s: s | {"a.total_ops": torch.ones(1)},
    "a config beside": lambda s: {"model": {"name": "resnet"}, "state_dict": s},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_weights_are_found(how: str, tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(WRAPPED[how](state), tmp_path / "w.pt")
    found = tensors_of(tmp_path / "w.pt", "w.pt")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


HARMLESS: dict[str, Any] = {
    "arguments": argparse.Namespace(lr=0.1, out=Path("runs") / "1"),
    "a numpy number": np.float64(0.93),
    "a numpy array": np.arange(3),
    "a whole number": np.int64(3),
    "a path": Path("here"),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_checkpoints_keep_beside_weights_is_no_obstacle(what: str, tmp_path: Path) -> None:
    torch.save({"model": net().state_dict(), "extra": HARMLESS[what]}, tmp_path / "w.pth")
    assert "a.weight" in tensors_of(tmp_path / "w.pth", "w.pth")


class Config:
    """Of a training script."""


@pytest.mark.parametrize("content", [{"model": {}, "config": Config()}, Config()])
def test_objects_are_named_and_not_made(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    message = r"w.pt also holds \S*Config, which reading would execute, .* torch.save\(model.state_dict\(\), FILE\)$"
    with pytest.raises(ValueError, match=message):
        tensors_of(tmp_path / "w.pt", "w.pt")


def test_a_whole_model_is_named_by_its_classes(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"also holds .*torch\.nn\.modules\.container\.Sequential"):
        tensors_of(tmp_path / "w.pt", "w.pt")


def test_a_checkpoint_without_weights_says_what_it_has(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "weights_of_my_net": {"a": torch.ones(1)}}, tmp_path / "w.pt")
    message = r"no tensors by name, but epoch \(int\), weights_of_my_net \(dict\); weights are looked for under state"
    with pytest.raises(ValueError, match=message):
        tensors_of(tmp_path / "w.pt", "w.pt")


def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("not weights")
    with pytest.raises(ValueError, match=r"w.pt holds no weights that can be read") as found:
        tensors_of(tmp_path / "w.pt", "w.pt")
    assert "\n" not in str(found.value)
