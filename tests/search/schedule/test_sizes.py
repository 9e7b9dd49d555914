"""What networks cost by their shapes: the box of a study holds every baseline that it may search."""

from __future__ import annotations

import pytest

from search.commands.study_check import reference_of
from search.schedule.sizes import baseline_shapes, shape_of
from search.spec import narrowed_spaces, parse_study
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task

TASK = Task(channels=1, height=8, width=8, classes=10)


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (
            "skip_vit: {layers: [2, 6], dim: [32, 64], patch: 2}",
            {"layers": 6, "dim": 64, "patch": 2},
        ),
        (
            "skip_vit: {layers: [2, 6], dim: 64, patch: [2, 4]}",
            {"layers": 6, "dim": 64, "patch": 2},
        ),
        (
            "skip_vit: {layers: 2, dim: [32, 64], patch: 4, mlp_ratio: 4}",
            {"layers": 2, "dim": 64, "mlp_ratio": 4},
        ),
        ("skip_vit: {layers: 2, dim: 32, patch: [4, 16]}", {"layers": 2, "dim": 32, "patch": 4}),
    ],
)
def test_the_reference_is_a_tenth_above_the_largest_baseline(
    space: str, values: dict[str, object]
) -> None:
    name = space.split(":")[0]
    spaces = narrowed_spaces(
        parse_study(f"study: s\ndata: digits\nfamilies: [{name}]\nspace: {{{space}}}\n", "s")
    )
    largest = shape_of(Candidate.of(family(name), values, 1).baseline(), TASK)
    shapes = baseline_shapes(family(name), spaces[name], TASK)
    assert max(one.macs for one in shapes) == largest.macs
    assert max(one.parameters for one in shapes) == largest.parameters
    expected = {"accuracy": 0.1, "macs": 1.1 * largest.macs, "parameters": 1.1 * largest.parameters}
    assert reference_of(spaces, TASK, 1 / TASK.classes).as_dict() == expected
