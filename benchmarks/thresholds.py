"""What searches of exit thresholds find, and what they cost, on tables drawn at random.

Every method scores vectors of thresholds on the same table of confidences, answers and costs: 10,000 images, four early
exits before the network's own head. Hypervolume is the share that the method's vectors dominate of the box between
(accuracy of the first exit alone, MACs of the deepest head) and (accuracy 1, no MACs), mean and standard deviation over
the seeds; "fresh" is that of ten of its front's vectors on 20,000 images that it has not seen. Slack is the proven
bound of what a grid lacks in accuracy to the best of all thresholds, the largest over the seeds. SCAN's levels are
0.70, 0.71 ... 1.00, to which its genetic search is confined; "SCAN's" rows are too.

    python benchmarks/thresholds.py             # about 20 seconds on one core
    python benchmarks/thresholds.py --exits 3 --images 5000 --seeds 10

Needs numpy and moocore only.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import moocore
import numpy as np

from benchmarks.threshold_searches import (
    SCAN_LEVELS,
    budget_curve,
    coordinate,
)
from search.measure.exit_grid import ExitTable, levels_within
from search.measure.exit_thresholds import (
    Setting,
    exhaustive_front,
    front_of,
    quantile_levels,
    setting,
    thin_out,
)
from search.measure.genetic_thresholds import BETAS, Genetic, decoded, genetic, scores

FALLBACK = "ensemble"
FRESH = 20_000  # images beside those that are searched on
PRICES = tuple(np.geomspace(0.05, 2.0, 8).tolist())
Found = tuple[Sequence[Setting], int, float | None]  # settings, vectors scored, slack


@dataclass(frozen=True)
class Row:
    """One method: the most vectors that it scored, and of each seed its seconds, hypervolumes and slack."""

    evaluations: int
    seconds: list[float]
    hypervolume: list[float]
    fresh: list[float]
    slack: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exits", type=int, default=4, help="early exits")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    tables = [drawn(given.exits, given.images + FRESH, seed) for seed in range(given.seeds)]
    print(f"{given.exits} exits, {given.images} images, n = {given.seeds} seeds")
    print(
        f"{'method':42}{'evaluations':>12}{'seconds':>9}{'hypervolume':>20}{'fresh':>20}{'slack':>8}"
    )
    for name, method in methods(given.exits).items():
        row = measured(method, tables)
        volumes = f"{spread(row.hypervolume):>20}{spread(row.fresh):>20}"
        slack = f"{max(row.slack):.4f}" if row.slack else ""
        print(
            f"{name:42}{row.evaluations:12,}{statistics.median(row.seconds):9.3f}{volumes}{slack:>8}",
            flush=True,
        )


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.4f} +- {statistics.stdev(values) if len(values) > 1 else 0.0:.4f}"


def drawn(exits: int, images: int, seed: int) -> ExitTable:
    """Exits of which later ones are more often right, some images easy for all, costs within 5 % an image."""
    draw = np.random.default_rng(seed)
    ease, luck = draw.random(images), draw.random(images)
    confidence = 0.5 + 0.5 * np.clip(ease + draw.normal(0, 0.15, (exits, images)), 0.01, 0.999)
    skill = np.linspace(0.5, 0.9, exits + 1)[:, None]
    correct = 0.7 * luck + 0.3 * draw.random((exits + 1, images)) < skill * (0.4 + ease)
    macs = np.linspace(1e6, 4e6, exits + 1).round()[:, None] * draw.integers(95, 106, images) / 100
    return ExitTable(confidence, correct, macs, draw.random(images) < 0.9)


def methods(exits: int) -> dict[str, Callable[[ExitTable, int], Found]]:
    """What is compared, by name; each is given a table and a seed."""
    evaluations = Genetic().population * Genetic().generations
    side = int(evaluations ** (1 / exits) + 1e-9)
    some = min(side, len(SCAN_LEVELS))

    def grid(most: int) -> Callable[[ExitTable, int], Found]:
        def found(table: ExitTable, seed: int) -> Found:
            levels, slack = levels_within(table, most=most, fallback=FALLBACK)
            return exhaustive_front(table, levels, FALLBACK), prod(map(len, levels)), slack

        return found

    def scan_grid(table: ExitTable, seed: int) -> Found:
        own = [
            SCAN_LEVELS[i] for i in np.linspace(0, len(SCAN_LEVELS) - 1, some).round().astype(int)
        ]
        return exhaustive_front(table, [own] * exits, FALLBACK), some**exits, None

    def scan_all(table: ExitTable, seed: int) -> Found:
        return (
            exhaustive_front(table, [SCAN_LEVELS] * exits, FALLBACK),
            len(SCAN_LEVELS) ** exits,
            None,
        )

    def quantiles(table: ExitTable, seed: int) -> Found:
        levels = quantile_levels(table, side)
        return exhaustive_front(table, levels, FALLBACK), prod(map(len, levels)), None

    return {
        "SCAN's genetic search, beta 1": lambda table, seed: evolved(table, seed, (1.0,)),
        "SCAN's genetic search, four betas": lambda table, seed: evolved(table, seed, BETAS),
        "SCAN's levels at random, image by image": lambda table, seed: at_random(
            table, seed, evaluations
        ),
        f"SCAN's levels, {some} an exit, grid": scan_grid,
        "SCAN's levels, all, grid": scan_all,
        "coordinate ascent, 12 quantiles, 8 prices": ascents,
        "budget curve, 40 shares": lambda table, seed: (
            budget_curve(table, np.linspace(0.05, 1.95, 40).tolist(), FALLBACK),
            40,
            None,
        ),
        f"quantiles, {side} an exit, grid": quantiles,
        "levels by gain, at most 2^18, grid": grid(2**18),
        "levels by gain, at most 2^22, grid": grid(2**22),
    }


def evolved(table: ExitTable, seed: int, betas: Sequence[float]) -> Found:
    """Everything that genetic searches of these betas scored, their generations shared out."""
    plain = float(table.correct[-1].mean()), float(table.macs[-1].mean())
    how = [
        Genetic(seed=seed + i, beta=beta, generations=40 // len(betas))
        for i, beta in enumerate(betas)
    ]
    found = [one for each in how for one in genetic(table, *plain, each, FALLBACK)[1]]
    return found, sum(each.population * each.generations for each in how), None


def at_random(table: ExitTable, seed: int, count: int) -> Found:
    vectors = decoded(
        np.arange(30) < np.random.default_rng(seed).integers(0, 31, (count, table.exits, 1))
    )
    accuracy, macs = scores(table, vectors, FALLBACK)
    settings = [
        Setting(tuple(v), FALLBACK, a, m)
        for v, a, m in zip(vectors.tolist(), accuracy, macs, strict=True)
    ]
    return settings, count, None


def ascents(table: ExitTable, seed: int) -> Found:
    levels = quantile_levels(table, 12)
    found = [coordinate(table, levels, price=price, fallback=FALLBACK) for price in PRICES]
    return found, 10 * sum(map(len, levels)) * len(PRICES), None  # at most: ten rounds


def measured(method: Callable[[ExitTable, int], Found], tables: Sequence[ExitTable]) -> Row:
    """The method on the images of each table that are not held back."""
    row = Row(0, [], [], [], [])
    for seed, table in enumerate(tables):
        seen, fresh = (
            table.of(part) for part in np.split(np.arange(table.confidence.shape[1]), [-FRESH])
        )
        start = time.perf_counter()
        settings, count, slack = method(seen, seed)
        row.seconds.append(time.perf_counter() - start)
        row.hypervolume.append(hypervolume(seen, settings))
        few = thin_out(front_of(settings), 10)
        row.fresh.append(
            hypervolume(fresh, [setting(fresh, one.thresholds, one.fallback) for one in few])
        )
        row.slack.extend([] if slack is None else [slack])
        row = replace(row, evaluations=max(row.evaluations, count))
    return row


def hypervolume(table: ExitTable, settings: Sequence[Setting]) -> float:
    """The share of the box that the settings dominate."""
    worst, whole = table.correct[0].mean(), table.macs[-1].mean()
    values = np.array([[one.macs / whole, (1 - one.accuracy) / (1 - worst)] for one in settings])
    return float(moocore.hypervolume(values, ref=[1.0, 1.0]))


if __name__ == "__main__":
    main()
