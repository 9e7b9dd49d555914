"""What many trainings at once cost a search, and what it costs that one look at what is known answers several.

    python benchmarks/search_bench/slots.py --slots 64 --together 16 32

With 64 trainings under way, each suggestion is made without what 63 of them will show. From 8 on the product makes
a quarter as many suggestions as there are slots from one look (search.schedule.scheduler_for.SHARE): it saves the
driver's time, and these know a little less still. Replays of a table tell how much that matters: the hypervolume of the
front after the same number of trainings, and its paired difference to one look for each, over seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402

from benchmarks.claims.verdicts import paired  # noqa: E402
from benchmarks.search_bench.compare import played, table_of  # noqa: E402


def replayed(table: str, slots: int, together: int, seed: int, trials: int) -> tuple[float, float]:
    """The front's hypervolume in the end, over cost and over its logarithm."""
    from benchmarks.search_bench.ours import Ours

    budget = trials * table_of(table).epochs / slots
    (plain,), (log,) = played(Ours(slots=slots, together=together), table, seed, budget, steps=1)
    return plain, log


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--table", default="digits")
    add("--slots", type=int, default=64, help="trainings at once [64]")
    add("--together", type=int, nargs="+", default=[16], help="suggestions from one look [16]")
    add("--trials", type=int, default=256, help="trainings that the budget pays for [256]")
    add("--seeds", type=int, default=10)
    add("--workers", type=int, default=os.cpu_count())
    return parser.parse_args()


def main() -> None:
    given = asked()
    os.environ["OMP_NUM_THREADS"] = "1"
    ways, seeds = list(dict.fromkeys([1, *given.together])), range(given.seeds)
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
        jobs = {
            (way, seed): pool.submit(replayed, given.table, given.slots, way, seed, given.trials)
            for seed in seeds
            for way in ways
        }
        found = {way: np.array([jobs[way, seed].result() for seed in seeds]) for way in ways}
    about = {name: getattr(given, name) for name in ("table", "slots", "trials", "seeds")}
    rows = {way: row(volumes, found[1]) for way, volumes in found.items()}
    print(json.dumps(about | {"from_one_look": rows}, indent=1))


def row(volumes: np.ndarray, alone: np.ndarray) -> dict[str, Any]:
    """Median hypervolumes of the seeds (rows of both arrays), and how they differ from those of one look for each: the
    mean, and its 95 % interval.
    """
    found: dict[str, Any] = {}
    for name, own, other in zip(("cost", "log_cost"), volumes.T, alone.T, strict=True):
        apart = float(np.mean(own - other)), *paired(list(zip(own, other, strict=True)))
        found[name] = {"hypervolume": float(np.median(own)), "difference": apart}
    return found


if __name__ == "__main__":
    main()
