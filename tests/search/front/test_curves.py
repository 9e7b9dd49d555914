"""Curves of operating points: fronts, layers and hypervolumes against brute force in one to three objectives."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.front.curves import (
    Curve,
    ReferencePoint,
    contributions,
    inside,
    layers,
    leaders,
    losses_within,
    own_front,
    volume,
)

GRID = 4  # losses are multiples of a fourth, so that ties and duplicates are common; 4 is the edge of the box


@st.composite
def curves(draw: st.DrawFn, count: int = 1) -> list[Curve]:
    """So many curves in the same number of objectives, some of them empty, some points beyond the box."""
    size = draw(st.integers(1, 3))
    point = st.tuples(*[st.integers(0, GRID + 1)] * size)
    found = [draw(st.lists(point, max_size=6)) for _ in range(draw(st.integers(1, count)))]
    return [np.array(points, dtype=float).reshape(-1, size) / GRID for points in found]


def beats(one: Curve, other: Curve) -> bool:
    return bool((one <= other).all() and (one < other).any())


def cells(curve: Curve) -> float:
    """Hypervolume in the box by counting the cells of the grid that some point dominates."""
    size = curve.shape[1]
    found = sum(
        any((p * GRID <= cell).all() for p in curve) for cell in product(range(GRID), repeat=size)
    )
    return found / GRID**size


def rows(curve: Curve) -> set[tuple[float, ...]]:
    return {tuple(row) for row in curve.tolist()}


@given(curves())
def test_the_own_front_is_what_comparing_all_pairs_leaves_cheapest_first(
    found: list[Curve],
) -> None:
    (curve,) = found
    kept = own_front(curve)
    assert rows(kept) == {
        tuple(p) for p in curve.tolist() if not any(beats(q, np.array(p)) for q in curve)
    }
    assert len(kept) == len(rows(kept))
    first = kept[:, -1 if kept.shape[1] == 1 else 1]
    assert (np.diff(first) >= 0).all()


@given(curves())
def test_the_volume_is_what_counting_cells_gives(found: list[Curve]) -> None:
    assert volume(found[0]) == pytest.approx(cells(found[0]))


@given(curves(4))
def test_a_contribution_is_what_counting_cells_without_the_training_takes_away(
    found: list[Curve],
) -> None:
    by_number = dict(enumerate(found))
    whole = cells(np.concatenate(found))
    for number, worth in contributions(by_number, list(by_number)).items():
        rest = [found[0][:0], *(curve for other, curve in by_number.items() if other != number)]
        assert worth == pytest.approx(whole - cells(np.concatenate(rest)))


def peeled(found: dict[int, Curve]) -> dict[int, int]:
    """Layers by taking away the front again and again; what a training itself beats is no layer of its own."""
    left = [
        (tuple(p), number)
        for number, curve in found.items()
        for p in own_front(inside(curve)).tolist()
    ]
    layer: dict[int, int] = {}
    level = 0
    while left:
        top = [(p, n) for p, n in left if not any(beats(np.array(q), np.array(p)) for q, _ in left)]
        for _, number in top:
            layer.setdefault(number, level)
        left = [one for one in left if one not in top]
        level += 1
    return {number: layer.get(number, level) for number in found}


@given(curves(5))
def test_layers_are_what_peeling_fronts_gives(found: list[Curve]) -> None:
    by_number = dict(enumerate(found))
    assert layers(by_number) == peeled(by_number)


@given(curves(5), st.integers(0, 5))
def test_leaders_are_the_first_layer_and_the_best_of_the_next_up_to_the_count(
    found: list[Curve], count: int
) -> None:
    by_number = dict(enumerate(found))
    layer = peeled(by_number)
    led = leaders(by_number, count)
    first = [number for number in by_number if layer[number] == 0]
    assert len(led) == len(set(led)) == max(len(first), min(count, len(by_number)))
    assert set(led[: len(first)]) == set(first)
    levels = [layer[number] for number in led]
    assert levels == sorted(levels)
    assert all(layer[number] >= levels[-1] for number in by_number if number not in led)
    for level in set(levels):
        peers = {
            number: own_front(inside(by_number[number]))
            for number in by_number
            if layer[number] == level
        }
        worth = contributions(peers, list(peers))
        taken = [worth[number] for number in led if layer[number] == level]
        assert taken == sorted(taken, reverse=True)
        assert all(worth[n] <= taken[-1] for n in peers if n not in led)


@given(curves(4), st.lists(st.integers(1, GRID), min_size=2, max_size=2))
def test_the_losses_within_budgets_are_what_a_loop_finds(
    found: list[Curve], levels: list[int]
) -> None:
    costs = found[0].shape[1] - 1
    grid = np.array([levels, levels[::-1]])[:, :costs] / GRID
    cases = [
        (curve, *case)
        for curve in found
        for case in zip(grid, losses_within(curve, grid), strict=True)
    ]
    for curve, budget, loss in cases:
        affordable = [p[0] for p in curve if all(p[1:] <= budget)]
        if affordable:
            assert loss == min(1.0, *affordable, 1.0)
        elif len(curve):
            over = min(
                max(np.log(max(c, 1e-9) / b) for c, b in zip(p[1:], budget, strict=True))
                for p in curve
            )
            assert loss == pytest.approx(min(3.0, 1 + over))
        else:
            assert loss == 3.0


def test_a_box_makes_losses_and_leaves_out_what_is_not_finite() -> None:
    box = ReferencePoint(accuracy=0.2, costs=(10.0, 4.0))
    curve = box.curve([(1.0, 5, 4), (0.6, 20, 1), (float("nan"), 1, 1), (0.5, float("inf"), 1)])
    assert curve == pytest.approx(np.array([[0, 0.5, 1], [0.5, 2, 0.25]]))
    assert box.curve([]).shape == (0, 3)
    assert ReferencePoint(0.5, ()).curve([(0.75,)]) == pytest.approx(np.array([[0.5]]))
