"""Trains the table that search methods are compared on: candidates, baselines to start from, second seeds.

    python benchmarks/search_bench/make.py digits --workers 2      # stop it and call it again as often as you like
    python benchmarks/search_bench/make.py digits --pack           # what is there so far, as Parquet

Every run is one JSON file in the work folder. Runs come in an order in which a part of them is of use: all candidates
once, then the baselines, the candidates that start from them, for a third of the epochs (warm) and for all (long),
then second seeds. Of a frozen trunk: its static networks, all candidates, second seeds. `seconds` are of the CPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

AGAIN = 5  # one candidate of so many is trained with a second seed too
STARTS = ("scratch", "warm", "long", "plain")


@dataclass(frozen=True)
class Run:
    """One training of the table, from scratch, from its baseline (warm, long), or that network itself (plain)."""

    candidate: int
    family: str
    params: dict[str, Any]
    start: str
    seed: int
    epochs: int
    origin: str | None = None  # name of the baseline that a warm one starts from

    @property
    def name(self) -> str:
        return f"{self.start}-{self.candidate:04d}-{self.seed}"


def candidates(spec: Any) -> list[tuple[str, dict[str, Any]]]:
    """Families in turn, each candidate drawn at random from its space; none twice."""
    import optuna

    from search.schedule.sampler import trial_seed
    from search.spec import narrowed_spaces
    from spaces.contract.family import Candidate
    from spaces.contract.registry import family

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces, keys = narrowed_spaces(spec), set()
    found: list[tuple[str, dict[str, Any]]] = []
    draw = 0
    while len(found) < spec.budget.trials:
        name = spec.families[len(found) % len(spec.families)]
        study = optuna.create_study(
            sampler=optuna.samplers.RandomSampler(seed=trial_seed(spec.seed, draw))
        )
        draw += 1
        try:
            one = Candidate.suggested(study.ask(), family(name), spaces[name], spec.budget.epochs)
        except ValueError:  # a combination that the family refuses
            continue
        if one.key not in keys:
            keys.add(one.key)
            found.append((name, dict(one.params)))
    return found


def runs(spec: Any) -> list[Run]:
    """All trainings of the table, the most useful first."""
    drawn, epochs = candidates(spec), spec.budget.epochs
    scratch = [Run(i, name, params, "scratch", 0, epochs) for i, (name, params) in enumerate(drawn)]
    again = [replace(one, seed=1) for one in scratch[: len(scratch) // AGAIN]]
    if spec.initial(spec.families[0]):
        return [*statics(spec), *scratch, *again]
    return [*scratch, *from_baselines(spec, scratch), *again]


def statics(spec: Any) -> list[Run]:
    """The static networks that a study of frozen trunks trains before its trials."""
    from search.schedule.static_nets import static_nets
    from search.spec import narrowed_spaces
    from spaces.contract.task import Task

    task = Task(channels=3, height=32, width=32, classes=10)  # whose stages are to be known
    found = static_nets(spec, narrowed_spaces(spec), task)
    return [
        Run(i, one.family.name, dict(one.params), "plain", 0, spec.budget.epochs)
        for i, one in enumerate(found)
    ]


def from_baselines(spec: Any, scratch: list[Run]) -> list[Run]:
    """The baselines, and the candidates that start from them."""
    from spaces.contract.family import Candidate
    from spaces.contract.registry import family

    epochs = spec.budget.epochs
    plain: dict[str, Run] = {}
    warm, long = [], []
    for one in scratch:
        values = Candidate.of(family(one.family), one.params, epochs)
        own = values.family
        size = {n: values.values[n] for n in (*own.size_dimensions, *own.baseline_dimensions)}
        size |= {
            n: values.values[n]
            for n in ("batch", "optimizer", "augment", "weight_decay")
            if n in values.params
        }
        key = json.dumps([one.family, size], sort_keys=True, default=str)
        if key not in plain:
            start = Candidate.of(own, size, epochs).baseline()
            plain[key] = Run(len(plain), one.family, dict(start.params), "plain", 0, epochs)
        warm.append(replace(one, start="warm", epochs=spec.budget.short, origin=plain[key].name))
        long.append(replace(warm[-1], start="long", epochs=epochs))
    return [*plain.values(), *warm, *long]


def train(run: Run, spec: Any, work: Path) -> dict[str, Any]:
    """The record of one training: every epoch, and the operating points at its rungs."""
    import torch
    from safetensors.torch import save_file

    from search.measure.operating_points import operating_points
    from search.run.data import data_spec, load_data, task_of
    from search.schedule.early_stopping import rung_epochs
    from spaces.contract.family import Candidate
    from spaces.contract.registry import family
    from storage.rows import point_row
    from trainers.epoch_sums import DivergedError
    from trainers.execution import Execution, best_device
    from trainers.fit import fit
    from trainers.initial_weights import start_from

    torch.set_num_threads(1)
    candidate = Candidate.of(family(run.family), run.params, run.epochs)
    data = load_data(data_spec(spec, candidate.image_size))
    task, seed = task_of(data), 1000 * run.seed + run.candidate
    net = candidate.build(task, seed)
    origin = str(work / f"{run.origin}.safetensors") if run.origin else spec.initial(run.family)
    if origin:
        start_from(net, origin, candidate.baseline().outline(task).state_dict())
    execution = Execution(device=best_device())
    data = learnt_from(net, data, candidate, execution, work)
    record: dict[str, Any] = {"epochs": [], "points": [], "plain_macs": net.plain_macs}
    record["parameters"] = sum(p.numel() for p in net.parameters())
    keep = {*rung_epochs(run.epochs), run.epochs}
    try:
        started = time.process_time()
        for event in fit(net, data, candidate.recipe, seed=seed, execution=execution):
            seconds = time.process_time() - started
            kept = {k: v for k, v in event.metrics.items() if k.startswith(("val/", "objective/"))}
            record["epochs"].append({"epoch": event.epoch, "seconds": seconds, **kept})
            started = time.process_time()
            if event.epoch in keep:
                found = operating_points(
                    net, data, candidate.recipe, execution=execution, seed=seed
                )
                for i, point in enumerate(found):
                    measured = {
                        key: value
                        for key, value in point_row(point).items()
                        if key not in ("extra", "chosen")
                    }
                    record["points"].append({"epoch": event.epoch, "first": i == 0, **measured})
                record["epochs"][-1]["measuring"] = time.process_time() - started
                net.train()
                started = time.process_time()
    except DivergedError as error:
        record["error"] = str(error)
    if run.start == "plain" and not spec.initial(run.family):
        save_file(
            {k: v.contiguous() for k, v in net.state_dict().items()},
            work / f"{run.name}.safetensors",
        )
    return record


def learnt_from(net: Any, data: Any, candidate: Any, execution: Any, work: Path) -> Any:
    """The images, or behind a frozen trunk its features, which all trainings share and whose time none has."""
    from trainers.feature_files import FeatureFiles
    from trainers.frozen import frozen_data, views_of

    files = FeatureFiles(work / "features", 4 * 2**30)
    found = frozen_data(net, data, views=views_of(candidate), files=files, execution=execution)
    return data if found is None else found


def _finish(run: Run, spec: Any, work: Path) -> str:
    """Train and write the record; returns a line that says how it went."""
    path, started = work / f"{run.name}.json", time.process_time()
    try:
        record = train(run, spec, work)
    except ValueError as error:  # refused, as a study would record it
        record = {"epochs": [], "points": [], "error": str(error)}
    record |= {"run": run.__dict__, "seconds": time.process_time() - started}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record))
    part.rename(path)
    last = record["epochs"][-1]["val/accuracy"] if record["epochs"] else float("nan")
    return f"{run.name}: {last:.4f} in {record['seconds']:.1f} s {record.get('error', '')}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=sorted(p.parent.name for p in HERE.glob("*/study.yml")))
    parser.add_argument(
        "--work", type=Path, help="folder of finished runs [benchmarks/search_bench/TABLE/work]"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", choices=STARTS, help="only runs that start this way")
    parser.add_argument(
        "--data", help="where the images are, in the place of the study file's data"
    )
    parser.add_argument("--data-root", help="folder of the data, for tables that need files")
    parser.add_argument("--weights", help="file of pretrained weights, for tables that need them")
    parser.add_argument(
        "--pack", action="store_true", help="write what is there as Parquet, train nothing"
    )
    given = parser.parse_args()

    from benchmarks.search_bench.table import pack, study_of

    spec = study_of(HERE / given.table)
    asked = {"data": given.data, "data_root": given.data_root, "init_from": given.weights}
    spec = spec.model_copy(update={key: value for key, value in asked.items() if value})
    work = given.work or HERE / given.table / "work"
    work.mkdir(parents=True, exist_ok=True)
    if given.pack:
        pack(work, HERE / given.table)
        return
    todo = [run for run in runs(spec) if not (work / f"{run.name}.json").exists()]
    todo = [run for run in todo if given.only in (None, run.start)]
    print(f"{len(todo)} runs to go", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # warm runs need their baseline: all of those first
    first = [run for run in todo if not run.origin and not run.seed]
    rest = [run for run in todo if run.origin or run.seed]
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
        for part in (first, rest):
            waiting = [pool.submit(_finish, run, spec, work) for run in part]
            for number, one in enumerate(as_completed(waiting), 1):
                print(f"[{number}/{len(part)}] {one.result()}", flush=True)


if __name__ == "__main__":
    main()
