"""dynafront's default search against Optuna's default, live: the same trainer, the same wall-clock, side by side.

Both arms run at the same time, each on one core, on 8x8 digits, until their minutes are over. Optuna's arm is what its
users do: its TPE sampler with its defaults, every training from scratch and to its end, one point a training. Fronts
are judged by hypervolume from chance accuracy and the most expensive point of all fronts, over cost and
over its logarithm.

    python benchmarks/live_search.py --minutes 3 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

STUDY = """
study: live
data: digits
families: [gated_resnet, multi_exit, skip_vit]
space:
  gated_resnet: {{backbone: [resnet8, resnet14], width: [0.25, 0.5, 1.0], exits: [none, light], batch: 64}}
  multi_exit: {{backbone: [resnet18, wrn20_8], width: [0.125, 0.25], batch: 64}}
  skip_vit: {{layers: [2, 3, 4, 6], dim: [32, 64], patch: 2, batch: 32, augment: false, aggregator: none}}
budget: {{trials: 1000, epochs: 18, hours: {hours}{short}}}
validation: 0.4
seed: {seed}
"""
PLAIN = "sampler: random\nwarm_start: false\nearly_stopping: false\nstarting_points: false\n"
SHORT = ", warm_epochs: 6"  # of trials that start from a baseline
ARMS = ("dynafront", "optuna")


def run(arm: str, seed: int, minutes: float, folder: str) -> None:
    """Search in a process of its own; leaves the points as JSON."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import optuna
    import torch
    from rich.console import Console

    from search.commands.search import run_study
    from search.measure import operating_points
    from search.run import worker as trial
    from search.schedule import optuna_sampler
    from search.spec import parse_study
    from storage.records import Kind
    from storage.settings import Settings
    from storage.store import Store

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[ARMS.index(arm) % len(cores)]})
    # its own defaults in place of ours; nor do its users measure what they do not count
    if arm == "optuna":
        optuna_sampler.random = lambda seed, trials: optuna.samplers.TPESampler(seed=seed)
        operating_points.operating_points = partial(operating_points.operating_points, quick=True)
        trial._inspection = lambda *_: {}
    short, more = ("", PLAIN) if arm == "optuna" else (SHORT, "")
    text = STUDY.format(hours=minutes / 60, seed=seed, short=short) + more
    settings = Settings.model_validate({"storage": {"folder": folder}})
    run_study(
        parse_study(text, "live.yml"),
        text,
        settings,
        Console(quiet=True),
        workers=0,
        baselines=False,
    )
    store = Store.open(settings.database_url)
    kept = [p for p in store.points("live") if p.chosen or arm == "dynafront"]
    rows = [{"accuracy": p.accuracy, "macs": p.macs_mean, "knobs": p.knobs} for p in kept]
    trials = [t.state for t in store.trials("live", kind=Kind.SEARCH)]
    Path(folder, "found.json").write_text(json.dumps({"points": rows, "trials": trials}))


def judged(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Trials and hypervolumes of both arms of one seed."""
    from benchmarks.search_bench.compare import in_decades
    from search.front.curves import ReferencePoint, volume
    from spaces.contract.knobs import Knobs

    points = {
        arm: [(p["accuracy"], p["macs"]) for p in one["points"] if not Knobs(**p["knobs"]).random]
        for arm, one in found.items()
    }
    every = [p for own in points.values() for p in own]
    best = max(accuracy for accuracy, _ in every)
    box = ReferencePoint(0.1, (1.1 * min(macs for accuracy, macs in every if accuracy == best),))
    rows = {}
    for arm, own in points.items():
        curve = box.curve(own)
        rows[arm] = {
            "trials": len(found[arm]["trials"]),
            "stopped": found[arm]["trials"].count("stopped"),
            "hypervolume": volume(curve),
            "log_cost": volume(in_decades(curve)),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print(
        f"{platform.machine()}, Python {platform.python_version()}; {given.minutes:g} minutes an arm, both at once"
    )
    print("seed  arm        trials (stopped)  hypervolume  over log cost")
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as parent:
            folders = {arm: str(Path(parent, arm)) for arm in ARMS}
            both = [
                context.Process(target=run, args=(arm, seed, given.minutes, folders[arm]))
                for arm in ARMS
            ]
            for process in both:
                process.start()
            for process in both:
                process.join()
            found = {arm: json.loads(Path(folders[arm], "found.json").read_text()) for arm in ARMS}
        for arm, row in judged(found).items():
            counts = f"{row['trials']:>4.0f} ({row['stopped']:.0f})"
            print(
                f"{seed:>4}  {arm:<10} {counts:<17} {row['hypervolume']:.4f}       {row['log_cost']:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
