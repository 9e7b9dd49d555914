"""How long trainings take, from a few of their steps."""

from __future__ import annotations

from typing import Any

import pytest

import search.run.speed as module
from search.run.data import load_data, task_of
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from trainers.data.splits import DataSpec
from trainers.execution import Execution

DATA = DataSpec(source="digits", validation=0.3)


@pytest.mark.parametrize(("macs", "batch", "images"), [(1e15, 64, 256), (1e5, 4, 32)])
def test_a_large_network_is_timed_on_few_images(
    monkeypatch: pytest.MonkeyPatch, macs: float, batch: int, images: int
) -> None:
    monkeypatch.setattr(module, "STEP_MACS", macs)
    monkeypatch.setattr(module, "MEASURED_MACS", macs)
    seen: list[tuple[int, int, int]] = []
    fit = module.fit

    def watched(net: Any, data: Any, recipe: Any, **keywords: Any) -> Any:
        seen.append((recipe.batch, len(data.train), len(data.validation)))
        return fit(net, data, recipe, **keywords)

    monkeypatch.setattr(module, "fit", watched)
    net = family("gated_resnet")
    candidate = Candidate.of(net, {"backbone": "resnet8", "width": 0.25, "batch": 64}, 1)
    task = task_of(load_data(DATA))
    found = module.measured_speed(candidate, task, DATA, Execution(device="cpu"), points=False)
    assert seen == [(batch, max(10, 3 * batch), images)]
    assert found.epoch > 0
