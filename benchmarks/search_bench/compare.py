"""Search methods on the same table and clock: hypervolume of the front against epochs trained.

    python benchmarks/search_bench/compare.py                      # all methods, 20 seeds, tables and pictures
    python benchmarks/search_bench/compare.py --quick --json       # the ratios alone, in under a minute
    python benchmarks/search_bench/compare.py --table frozen --trials 30 --unit seconds

A method spends epochs of trainings that are rows of a table (see the table's card.md). Its front is made of what it has
trained by then, and judged by the hypervolume from chance accuracy and the most expensive point of the whole table's
front: over cost, where being ten times cheaper counts little, and over the logarithm of cost, as fronts are drawn.
`epochs_ratio_to_optuna_default` is the median over seeds of the epochs that dynafront's default needs to reach the
hypervolume that Optuna's default has in the end (its median), over Optuna's epochs. With `--unit seconds` the clock
counts seconds of training, and of measuring for those that count all operating points; the budget is that of as many
mean trainings. Only the table `frozen` has seconds of the CPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402

TRIALS = 60  # full trainings that the budget pays for, unless said otherwise
STEPS = 60  # times of the clock at which fronts are measured
OPTUNA, OURS = "optuna tpe (its default)", "dynafront"
LONG = "dynafront: full ones from baselines too"  # only where the table has such trainings
# only where the table has short trainings from baselines
WARM = (
    "dynafront: no warm start",
    "dynafront: short trainings alone",
    "dynafront: no warm start, no stopping",
)
STATIC = "dynafront: no static networks first"  # only of frozen trunks
QUICK = (OPTUNA, "random", OURS, "dynafront: one point a trial", "dynafront: no stopping", "dynafront: no warm start",
         "dynafront: random candidates")  # fmt: skip


def methods() -> dict[str, Callable[[Any], None]]:
    """By name: Optuna's samplers, other libraries where they are installed, dynafront, and dynafront without a part."""
    from optuna.samplers import GPSampler, NSGAIISampler, RandomSampler, TPESampler

    from benchmarks.search_bench.others import others
    from benchmarks.search_bench.ours import Ours
    from benchmarks.search_bench.plain_optuna import Optuna
    from benchmarks.search_bench.signals import signals
    from search.schedule.samplers import SAMPLERS

    found: dict[str, Callable[[Any], None]] = {
        "random": Optuna(lambda seed: RandomSampler(seed=seed)),
        OPTUNA: Optuna(lambda seed: TPESampler(seed=seed)),
        "optuna nsga-ii": Optuna(lambda seed: NSGAIISampler(seed=seed)),
        "optuna gp": Optuna(lambda seed: GPSampler(seed=seed, warn_independent_sampling=False)),
        **others(),
        "optuna tpe, all operating points counted": Optuna(
            lambda seed: TPESampler(seed=seed), curve=True
        ),
        OURS: Ours(),
        "dynafront: one point a trial": Ours(curve=False),
        "dynafront: no stopping": Ours(stopping=False),
        "dynafront: no warm start": Ours(warm=False),
        "dynafront: baselines not counted": Ours(plain=False),
        "dynafront: short trainings alone": Ours(full=""),
        LONG: Ours(full="long"),
        STATIC: Ours(static_nets=False),
        "dynafront: no warm start, no stopping": Ours(warm=False, stopping=False),
        "dynafront: no starting points": Ours(starts=False),
        "dynafront: no de-duplication": Ours(dedup=False),
        "dynafront: random candidates": Ours(sampler=SAMPLERS["random"]),
        "dynafront: waits for each result": Ours(ahead=False),
        "dynafront: pays for measuring": Ours(measuring=True),
        "dynafront: tpe on one point (signal)": Ours(sampler=SAMPLERS["tpe"]),
    }
    return found | signals()


@lru_cache(maxsize=1)
def table_of(name: str) -> Any:
    from benchmarks.search_bench.table import Table

    return Table(HERE / name)


def replay(
    table: str, method: str, seed: int, trials: int, unit: str = "epochs"
) -> list[list[float]]:
    """Hypervolume at STEPS even times of the clock, of one method under one seed: over cost, over its logarithm."""
    from benchmarks.search_bench.world import SECONDS

    known = table_of(table)
    budget = trials * (known.seconds if unit == SECONDS else known.epochs)
    return played(methods()[method], table, seed, budget, unit)


def played(
    method: Callable[[Any], None],
    table: str,
    seed: int,
    budget: float,
    unit: str = "epochs",
    steps: int = STEPS,
) -> list[list[float]]:
    """The same at so many even times, of any method and a budget in units of the clock."""
    import warnings

    from benchmarks.search_bench.world import World, volumes

    warnings.filterwarnings("ignore")
    world = World(table_of(table), seed, budget, unit)
    method(world)
    at = np.linspace(0, budget, steps + 1)[1:].tolist()
    return [
        volumes(world.log, at),
        volumes([(when, in_decades(curve)) for when, curve in world.log], at),
    ]


def in_decades(curve: np.ndarray) -> np.ndarray:
    """The same points with cost as the share of three decades below the reference: a tenth of the cost is a third."""
    found = curve.copy()
    found[:, 1] = np.maximum(0.0, 1 + np.log10(np.maximum(found[:, 1], 1e-9)) / 3)
    return found


def ratio(curve: np.ndarray, target: float) -> float:
    """The share of the budget after which a hypervolume curve has reached the target; infinite if it never does."""
    reached = np.flatnonzero(curve >= target - 1e-12)
    return float((reached[0] + 1) / len(curve)) if len(reached) else float("inf")


def summary(both: dict[str, np.ndarray], trials: int, unit: str = "epochs") -> dict[str, Any]:
    """What was found, over cost; and the ratios over the logarithm of cost beside it."""
    plain, decades = ({name: curves[:, i] for name, curves in both.items()} for i in (0, 1))
    found, other = _summary(plain) | {"trials": trials, "unit": unit}, _summary(decades)
    found["log_cost"] = {
        key: other[key]
        for key in ("epochs_ratio_to_optuna_default", "interval", "target_hypervolume")
    }
    for name, row in found["methods"].items():
        row["epochs_ratio_log_cost"] = other["methods"][name]["epochs_ratio"]
        row["hypervolume_log_cost"] = other["methods"][name]["hypervolume"]
    return found


def _summary(found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Medians with the middle half of the seeds, by method."""
    target = float(np.median(found[OPTUNA][:, -1]))
    rows = {}
    for name, curves in found.items():
        ratios = np.array([ratio(curve, target) for curve in curves])
        at = {
            f"{share:.0%}": float(np.median(curves[:, round(share * STEPS) - 1]))
            for share in (0.1, 0.25, 0.5, 1)
        }
        rows[name] = {
            "epochs_ratio": _quantiles(ratios)[1],
            "epochs_ratio_quartiles": _quantiles(ratios)[::2],
            "hypervolume": at,
            "seeds": len(curves),
        }
    return {
        "epochs_ratio_to_optuna_default": rows[OURS]["epochs_ratio"],
        "interval": bootstrap(found),
        "target_hypervolume": target,
        "methods": rows,
    }


def _quantiles(ratios: np.ndarray) -> list[float | None]:
    """Quartiles and median (lower ones, for what never arrives is infinite); None where infinite."""
    found = np.quantile(ratios, [0.25, 0.5, 0.75], method="inverted_cdf")
    return [float(x) if np.isfinite(x) else None for x in found]


def bootstrap(found: dict[str, np.ndarray], draws: int = 2000) -> list[float | None]:
    """95 % interval of the median ratio: seeds of both methods drawn again."""
    draw, ours, theirs = np.random.default_rng(0), found[OURS], found[OPTUNA][:, -1]
    medians = []
    for _ in range(draws):
        target = np.median(draw.choice(theirs, len(theirs)))
        some = ours[draw.integers(len(ours), size=len(ours))]
        medians.append(np.median([ratio(curve, float(target)) for curve in some]))
    return [
        float(x) if np.isfinite(x) else None
        for x in np.quantile(medians, [0.025, 0.975], method="inverted_cdf")
    ]


def main() -> None:
    given = asked()
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = given.seeds or (3 if given.quick else 20)
    names = chosen_methods(given)
    found = _replayed(
        given.table,
        given.trials,
        names,
        seeds,
        given.workers,
        given.out,
        quiet=given.json,
        unit=given.unit,
    )
    result = summary(found, given.trials, given.unit)
    if given.json:
        print(json.dumps(result, indent=1))
    else:
        from benchmarks.search_bench.report import markdown

        print("\n" + markdown(result))
    if given.out:
        from benchmarks.search_bench.report import write

        write(given.out, found, result)


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    tables = sorted(p.parent.name for p in HERE.glob("*/runs.parquet"))
    add("--table", default="digits", choices=tables)
    add("--seeds", type=int, help="replays of each method [20; 3 when quick]")
    add(
        "--trials",
        type=int,
        default=TRIALS,
        help="trainings of full length that the budget pays for [60]",
    )
    add("--unit", default="epochs", choices=["epochs", "seconds"], help="of the clock")
    add("--only", nargs="*", help="methods by name, beside dynafront and Optuna's default")
    add("--quick", action="store_true", help="few methods and seeds")
    add("--json", action="store_true", help="print JSON alone")
    add("--out", type=Path, help="folder for replays (which are kept there), table.md and pictures")
    add("--workers", type=int, default=os.cpu_count())
    return parser.parse_args()


def chosen_methods(given: argparse.Namespace) -> list[str]:
    """Their names, in the order of the table."""
    names = there(list(QUICK) if given.quick else list(methods()), given.table)
    if given.only is None:
        return names
    always = [OPTUNA, OURS]
    return [*always, *(name for name in names if name in given.only and name not in always)]


def there(names: list[str], table: str) -> list[str]:
    """Those of the methods that the table has trainings for."""
    known = table_of(table)
    missing = set() if known.of("long") else {LONG}
    missing |= set() if known.of("warm") else set(WARM)
    missing |= set() if known.frozen else {STATIC}
    return [name for name in names if name not in missing]


def _replayed(
    table: str,
    trials: int,
    names: list[str],
    seeds: int,
    workers: int,
    out: Path | None,
    *,
    quiet: bool,
    unit: str = "epochs",
) -> dict[str, np.ndarray]:
    """(seeds, 2, STEPS) of every method; replays that are in the folder already are not run again."""
    kept: dict[str, Any] = {"table": table, "trials": trials, "unit": unit, "replays": {}}
    if out and (out / "curves.json").exists():
        kept = {"unit": "epochs"} | json.loads((out / "curves.json").read_text())
        if (kept["table"], kept["trials"], kept["unit"]) != (table, trials, unit):
            sys.exit(
                f"{out} holds replays of {kept['table']} with {kept['trials']} trainings over "
                f"{kept['unit']}; give another --out"
            )
    known = kept["replays"]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        todo = [
            (name, seed)
            for seed in range(seeds)
            for name in names
            if str(seed) not in known.get(name, {})
        ]
        jobs = {
            pool.submit(replay, table, name, seed, trials, unit): (name, seed)
            for name, seed in todo
        }
        for number, job in enumerate(as_completed(jobs), 1):
            name, seed = jobs[job]
            known.setdefault(name, {})[str(seed)] = np.round(job.result(), 5).tolist()
            if out:
                out.mkdir(parents=True, exist_ok=True)
                (out / "curves.json").write_text(json.dumps(kept))
            if not quiet:
                print(f"\r{number}/{len(jobs)}", end="", file=sys.stderr, flush=True)
    order = [*names, *(name for name in known if name not in names)]
    return {name: np.array(list(known[name].values())) for name in order if known.get(name)}


if __name__ == "__main__":
    main()
