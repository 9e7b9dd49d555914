"""Networks that are built for their shapes alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.outlines import shapes_only
from spaces.contract.registry import family
from spaces.contract.task import Task

TASK = Task(channels=3, height=16, width=16, classes=10)
PROGRAM = """
import sys
from tests.spaces.contract.test_outlines import outlined
outlined("gated_resnet")
sys.exit("torch._dynamo" in sys.modules)
"""


def outlined(name: str) -> DynamicNet:
    return Candidate.of(family(name), {}, 1).outline(TASK)


@pytest.mark.parametrize("name", ["gated_resnet", "skip_vit"])
def test_an_outline_has_the_shapes_of_the_network_and_no_memory(name: str) -> None:
    outline, net = outlined(name), Candidate.of(family(name), {}, 1).build(TASK, seed=0)
    assert {k: v.shape for k, v in outline.state_dict().items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }
    assert all(p.is_meta for p in outline.parameters())
    assert outline.plain_macs == net.plain_macs


def test_weights_outside_are_drawn_as_ever() -> None:
    with shapes_only():
        torch.nn.Linear(2, 2)
    assert torch.nn.Linear(50, 50).weight.std() > 0.01


@pytest.mark.slow
def test_an_outline_does_not_load_the_compiler_of_pytorch() -> None:
    assert subprocess.run([sys.executable, "-c", PROGRAM], timeout=120).returncode == 0
