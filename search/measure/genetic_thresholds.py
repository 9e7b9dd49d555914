"""SCAN's genetic search of exit thresholds, on tables of confidences, answers and costs.

Thresholds are coded by how many bits of a gene are set: Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable Neural
Networks Framework Towards Compact and Efficient Models", NeurIPS, 2019. Differs: population, rates and selection are
unpublished, ours are stated below; one search finds a front, by several weights of accuracy.

Shapes: N images, K exits with a threshold (row K of a table is the last answer), V threshold vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.measure.exit_grid import Bools, ExitTable, Floats
from search.measure.exit_thresholds import Setting, front_of

CHUNK = 2_000_000  # table entries looked at together
BETAS = (0.1, 0.5, 2.0, 10.0)


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


def genetic_front(table: ExitTable) -> list[Setting]:
    """The front of all that searches with each of BETAS evaluate, which share the generations of one.

    As published the deepest head has a threshold too, and the ensemble answers below it.
    """
    plain = float(table.correct[-1].mean()), float(table.macs[-1].mean())
    generations = Genetic().generations // len(BETAS)
    found: list[Setting] = []
    for seed, beta in enumerate(BETAS):
        how = Genetic(seed=seed, beta=beta, generations=generations)
        found += genetic(table.with_deepest(), *plain, how)[1]
    return front_of(found)
