"""What a call for operating points costs, and that a quick one measures a part of what a full one does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from search.measure import operating_points as module
from search.measure.effort import Effort
from search.measure.operating_points import LAYER_PASSES, operating_points
from search.run.data import task_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from trainers.data.splits import DataSpec, ImageData, load
from trainers.evaluate import evaluate
from trainers.execution import Execution
from trainers.exit_logits import exit_logits
from trainers.fit import fit

VIT = {"dim": 32, "patch": 2, "batch": 32, "augment": False}
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "gates": (
        "gated_resnet",
        {"backbone": "resnet8", "width": 0.5, "batch": 32, "granularity": "joint"},
    ),
    "gates and exits": (
        "gated_resnet",
        {"backbone": "resnet8", "width": 0.5, "batch": 32, "exits": "light"},
    ),
    "exits": ("multi_exit", {"batch": 32}),
    "oracles": ("skip_vit", {"layers": 4, **VIT}),
    "layers": ("shuffled_vit", {"layers": 4, **VIT}),
    "plain": ("gated_resnet", {"backbone": "resnet8", "width": 0.5, "batch": 32, "gated": False}),
}
MOST = {"gates": 25, "gates and exits": 28, "exits": 2, "oracles": 22, "layers": 21, "plain": 1}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load(DataSpec(source="digits", validation=0.25, train_limit=300))


def trained(data: ImageData, name: str, epochs: int = 2, **values: Any) -> DynamicNet:
    candidate = Candidate.of(family(name), values, epochs)
    net = candidate.build(task_of(data), 0)
    assert list(fit(net, data, candidate.recipe))
    return net.eval()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often each call ran the network over validation."""
    found: list[int] = []

    def counted(net: Any, split: Any, data: Any, knobs: Any, **rest: Any) -> Any:
        found.append(knobs.passes)
        return evaluate(net, split, data, knobs, **rest)

    def tabled(*args: Any, **rest: Any) -> Any:
        found.append(1)
        return exit_logits(*args, **rest)

    monkeypatch.setattr(module, "evaluate", counted)
    monkeypatch.setattr(module, "exit_logits", tabled)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_quick_call_takes_few_passes_for_some_of_the_same_points(
    digits: ImageData, passes: list[int], name: str
) -> None:
    of, values = NETS[name]
    net = trained(digits, of, **values)
    full = operating_points(net, digits, Recipe(batch=32), execution=Execution(), seed=0)
    spent = sum(passes)
    passes.clear()
    quick = operating_points(
        net, digits, Recipe(batch=32), execution=Execution(), seed=0, quick=True
    )
    assert sum(passes) <= 4
    assert sum(passes) <= spent <= MOST[name]
    for point in quick:
        assert point in full
    assert len(quick) >= (1 if name == "plain" else 2)
    assert not any(
        key in point.knobs for point in quick for key in ("passes", "recalibrate", "prune")
    )


@pytest.mark.slow
@pytest.mark.parametrize("layers", [5, 12])
def test_layers_are_left_out_one_by_one_within_the_budget(
    digits: ImageData, passes: list[int], layers: int
) -> None:
    net = trained(digits, "shuffled_vit", 1, layers=layers, **VIT)
    points = operating_points(net, digits, Recipe(batch=32), execution=Execution(), seed=0)
    # without the first point, orders, prefixes and halves
    own = sum(passes) - 1 - 5 - (layers - 1 + 2 + 2)
    assert layers < own <= LAYER_PASSES
    left_out = [set(p.knobs["keep"]) for p in points[1 - layers :]]
    assert [len(keep) for keep in left_out] == list(range(layers - 1, 0, -1))
    assert all(after < before for before, after in pairwise(left_out))


@pytest.mark.slow
def test_with_fewer_passes_than_layers_no_more_are_spent(
    digits: ImageData, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = trained(digits, "shuffled_vit", 1, layers=5, **VIT)
    spent = []
    for most in (0, 3):
        monkeypatch.setattr(module, "LAYER_PASSES", most)
        passes.clear()
        operating_points(net, digits, Recipe(batch=32), execution=Execution(), seed=0)
        spent.append(sum(passes))
    assert spent[1] - spent[0] == 3


@pytest.mark.slow
def test_an_effort_says_how_often_gates_are_drawn_and_on_what_statistics_are_refreshed(
    digits: ImageData, passes: list[int]
) -> None:
    net = trained(digits, *NETS["gates"][:1], 1, **NETS["gates"][1])
    effort = Effort(passes=5, recalibration_batches=2, recalibration_images=64)
    points = operating_points(
        net, digits, Recipe(batch=32), execution=Execution(), seed=0, effort=effort
    )
    assert passes.count(5) == 2
    drawn = [p.knobs["passes"] for p in points if "passes" in p.knobs]
    refreshed = [p.knobs for p in points if "recalibrate" in p.knobs]
    assert drawn == [5, 5]
    assert refreshed
    assert all(
        (one["recalibration_batches"], one["recalibration_images"]) == (2, 64) for one in refreshed
    )


def test_points_have_top_5_accuracy_beside_top_1(digits: ImageData) -> None:
    net = Candidate.of(family("gated_resnet"), NETS["plain"][1], 1).build(task_of(digits), 0)
    (point,) = operating_points(net, digits, Recipe(batch=32), execution=Execution(), seed=0)
    table = evaluate(net, digits.validation, digits, Knobs(policy="always_on"))
    assert point.top5 == table.answers.top5_PN.mean()
    assert point.top5 > point.top1


@pytest.mark.slow
def test_stochastic_depth_is_measured_with_all_blocks_scaled_by_their_rates(
    digits: ImageData,
) -> None:
    values = {"backbone": "resnet8", "width": 0.5, "batch": 32, "gate": "survival", "loss": "none"}
    net = trained(digits, "gated_resnet", 1, **values)
    points = operating_points(net, digits, Recipe(batch=32), execution=Execution(), seed=0)
    (scaled,) = [p for p in points if p.knobs["policy"] == "scaled_on"]
    found = [units[0] for units in scaled.extra["rates"].values()]
    assert found == pytest.approx([5 / 6, 4 / 6, 0.5], abs=0.12)
