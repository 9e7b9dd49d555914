"""Published searches of exit thresholds, to compare ours with, on tables of confidences, answers and costs.

Genetic search over popcount-coded thresholds: Zhang, Yu and Ma, "SCAN: A Scalable Neural Networks Framework Towards
Compact and Efficient Models", NeurIPS, 2019 (population, rates and selection are unpublished; ours are stated below).
Budget curve: Huang, Chen, Li, Wu, van der Maaten and Weinberger, "Multi-Scale Dense Networks for Resource Efficient
Image Classification", ICLR, 2018.

Shapes: N images, K early exits (row K of a table is the deepest head), V threshold vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.measure.exit_grid import Bools, ExitTable, Floats
from search.measure.exit_thresholds import Setting, setting

SCAN_LEVELS = tuple(round(1.0 - 0.01 * i, 2) for i in range(31))  # 1.00, 0.99 ... 0.70
CHUNK = 2_000_000  # table entries looked at together


def scores(table: ExitTable, vectors: Floats, fallback: str = "deepest") -> tuple[Floats, Floats]:
    """(accuracy (V,), mean MACs (V,)) of many vectors (V, K) of thresholds."""
    images = table.confidence.shape[1]
    answers = table.answers(fallback)
    accuracy, macs = np.empty(len(vectors)), np.empty(len(vectors))
    step = max(1, CHUNK // images)
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        right = np.broadcast_to(answers[-1], (len(part), images))
        cost = np.broadcast_to(table.macs[-1], (len(part), images))
        for k in reversed(range(table.exits)):
            gone = table.confidence[k][None] > part[:, k : k + 1]
            right = np.where(gone, answers[k][None], right)
            cost = np.where(gone, table.macs[k][None], cost)
        accuracy[start : start + step], macs[start : start + step] = right.mean(1), cost.mean(1)
    return accuracy, macs


@dataclass(frozen=True, kw_only=True)
class Genetic:
    """Settings of the genetic search; those that the paper leaves open are ours."""

    beta: float = 1.0  # of a percentage point of accuracy beside the acceleration ratio
    population: int = 48
    generations: int = 40
    bits: int = 30
    crossover: float = 0.8
    mutation: float | None = None  # of a bit; by default one bit a genome
    elite: int = 2
    seed: int = 0


def decoded(genome: NDArray[np.bool_]) -> Floats:
    """Thresholds (..., K) of genomes (..., K, bits): 1 - 0.3 popcount / bits."""
    return 1.0 - 0.3 * genome.sum(-1) / genome.shape[-1]


def genetic(
    table: ExitTable,
    plain_accuracy: float,
    plain_macs: float,
    how: Genetic | None = None,
    fallback: str = "ensemble",
) -> tuple[Setting, list[Setting]]:
    """(the fittest, all that were evaluated) of SCAN's genetic search.

    Fitness: plain MACs over mean MACs, plus beta times the accuracy gained over the baseline in points. Selection
    is in proportion to fitness, shifted to be positive. Popcounts are drawn uniformly at first: random bits would all
    lie near threshold 0.85.
    """
    how = how or Genetic()
    draw = np.random.default_rng(how.seed)
    counts = draw.integers(0, how.bits + 1, (how.population, table.exits, 1))
    ranks = draw.random((how.population, table.exits, how.bits)).argsort(-1)
    genomes = ranks < counts
    mutation = how.mutation if how.mutation is not None else 1 / (table.exits * how.bits)
    best: tuple[float, Setting] | None = None
    seen: dict[tuple[float, ...], Setting] = {}
    for _ in range(how.generations):
        vectors = decoded(genomes)
        accuracy, macs = scores(table, vectors, fallback)
        fitness = plain_macs / macs + how.beta * 100 * (accuracy - plain_accuracy)
        for v, a, m, f in zip(vectors, accuracy, macs, fitness, strict=True):
            found = Setting(tuple(map(float, v)), fallback, float(a), float(m))
            seen[found.thresholds] = found
            if best is None or f > best[0]:
                best = (float(f), found)
        genomes = _next_generation(genomes, fitness, how, mutation, draw)
    assert best is not None
    return best[1], list(seen.values())


def _next_generation(
    genomes: Bools, fitness: Floats, how: Genetic, mutation: float, draw: np.random.Generator
) -> Bools:
    shifted = fitness - fitness.min() + 1e-9
    elite = genomes[np.argsort(-fitness, kind="stable")[: how.elite]]
    parents = draw.choice(len(genomes), (len(genomes) - how.elite, 2), p=shifted / shifted.sum())
    flat = genomes.reshape(len(genomes), -1)
    cut = draw.integers(1, flat.shape[1], len(parents))
    crossed = draw.random(len(parents)) < how.crossover
    first = (np.arange(flat.shape[1])[None] < cut[:, None]) | ~crossed[:, None]
    children = np.where(first, flat[parents[:, 0]], flat[parents[:, 1]])
    children = children ^ (draw.random(children.shape) < mutation)
    return np.concatenate([elite, children.reshape(-1, *genomes.shape[1:])])


def coordinate(
    table: ExitTable,
    levels: Sequence[Sequence[float]],
    *,
    price: float,
    fallback: str = "deepest",
    rounds: int = 10,
) -> Setting:
    """Coordinate ascent on accuracy minus price times (MACs over the deepest exit's): one threshold at a time."""
    whole = float(table.macs[-1].mean())
    current = [max(level) for level in levels]
    for _ in range(rounds):
        before = list(current)
        for k, own in enumerate(levels):
            vectors = np.array([[*current[:k], level, *current[k + 1 :]] for level in own])
            accuracy, macs = scores(table, vectors, fallback)
            current[k] = own[int(np.argmax(accuracy - price * macs / whole))]
        if current == before:
            break
    return setting(table, current, fallback)


def budget_curve(
    table: ExitTable, shares: Sequence[float], fallback: str = "deepest"
) -> list[Setting]:
    """For each q of `shares`, thresholds at which the share that leaves at exit k is in proportion to q^k."""
    images = table.confidence.shape[1]
    found = []
    for q in shares:
        weights = q ** np.arange(1, table.exits + 2)
        wanted = weights / weights.sum() * images
        left = np.ones(images, dtype=bool)
        thresholds = []
        for k in range(table.exits):
            here = np.sort(table.confidence[k][left])[::-1]
            count = min(round(wanted[k]), len(here))
            thresholds.append(float(here[count]) if count < len(here) else -1.0)
            left &= ~(table.confidence[k] > thresholds[-1])
        found.append(setting(table, thresholds, fallback))
    return found
