"""A network with exits to test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from spaces.families.multi_exit import MultiExitConfig, MultiExitNet
from tests.spaces.exits.nets import TASK


@pytest.fixture
def net(scramble: Callable[..., Any]) -> Callable[..., MultiExitNet]:
    """A scrambled ResNet-18 of an eighth of the width, with three exits; keywords are those of its config."""

    def build(**overrides: Any) -> MultiExitNet:
        with torch.random.fork_rng():
            torch.manual_seed(2)
            return scramble(MultiExitNet(MultiExitConfig(width=0.125, **overrides), TASK))

    return build
