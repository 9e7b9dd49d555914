"""From a pretrained network to a front that beats its static networks: exits on a frozen trunk.

The baselines are what people would use instead: the same network with its own head, trained by the same recipe, and the
network ended behind each stage. Points are chosen on validation alone. The test images are read once, at the end, for
the chosen points and the baselines. Accuracies have 95 % intervals (Wilson).

    python benchmarks/pretrained.py --weights FILE.safetensors --backbone tf_efficientnet_lite0 --data folder:PATH
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from search.run.data import data_spec, load_data
from search.run.jobs import job_of
from search.run.worker import trained_net
from search.spec import parse_study
from search.study_keys import StudySpec
from spaces.contract.knobs import Knobs
from storage.records import PointRecord
from storage.settings import Settings, Storage
from storage.store import Store
from trainers.data.splits import DataSpec, ImageData, test_split
from trainers.evaluate import evaluate
from trainers.execution import Execution
from trainers.feature_files import FeatureFiles
from trainers.frozen import rows_of
from trainers.significance import wilson

SHARES = (
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    1.0,
)  # of the best static network's MACs, within which the best point is shown
GOAL = 0.6  # MACs at the best static network's accuracy, over its MACs


@dataclass(frozen=True)
class Measured:
    """A point, why it was chosen, and what it does on the test images."""

    why: str
    point: PointRecord
    accuracy: float
    macs: float


def exits_space(args: argparse.Namespace) -> dict[str, Any]:
    """The space of exits on a frozen trunk."""
    return {
        "backbone": args.backbone,
        "trunk": "frozen",
        "dynamics": "exits",
        "exits": "linear",
        "exit_reads": args.reads,
        "exit_places": args.places,
        "lr": {"low": 0.01, "high": 0.05},
        "weight_decay": {"low": 1e-4, "high": 1e-2},
        "batch": 128,
    }


def study_text(args: argparse.Namespace, seed: int) -> str:
    """The study file of the search."""
    keys: dict[str, Any] = {
        "study": "pretrained",
        "data": args.data,
        "families": ["timm"],
        "image_size": args.pixels if len(args.pixels) > 1 else args.pixels[0],
        "space": {"timm": exits_space(args)},
        "init_from": args.weights,
        "train_limit": args.images - args.validation,
        "validation_limit": args.validation,
        "validation": args.share,
        "budget": {"trials": args.trials, "epochs": args.epochs},
        "region": {"within": 0.3},
        "seed": seed,
        "run": {"workers": args.workers, "device": "cpu", "precision": "float32"},
    }
    return json.dumps(keys)  # which is YAML


def searched(spec: StudySpec, text: str, settings: Settings, workers: int) -> float:
    """Run the product's search; returns its seconds."""
    from rich.console import Console

    from search.commands.search import run_study

    started = time.perf_counter()
    run_study(
        spec, text, settings, Console(stderr=True, quiet=True), workers=workers, baselines=False
    )
    return time.perf_counter() - started


def chosen(members: list[PointRecord], baselines: list[PointRecord]) -> dict[str, PointRecord]:
    """The points to measure, by why: all are chosen by what they do on validation."""
    best = best_static(baselines)
    found = {"most accurate": max(members, key=lambda p: p.accuracy)}
    as_good = [p for p in members if p.accuracy >= best.accuracy]
    if as_good:
        found["as accurate as the best static network"] = min(as_good, key=lambda p: p.macs_mean)
    for share in SHARES:
        within = [p for p in members if p.macs_mean <= share * best.macs_mean]
        if within:
            found[f"within {share:.0%} of its MACs"] = max(within, key=lambda p: p.accuracy)
    return found


def best_static(baselines: list[PointRecord]) -> PointRecord:
    """The most accurate static network on validation; of equal ones the cheapest."""
    return max(baselines, key=lambda p: (p.accuracy, -p.macs_mean))


class Examiner:
    """Measures points on the test images, whose features are computed once."""

    def __init__(self, store: Store, spec: StudySpec, settings: Settings, limit: int) -> None:
        self.store, self.spec, self.settings = store, spec, settings
        self.files = FeatureFiles(settings.features, settings.feature_bytes)
        self.limit = limit
        self._data: dict[DataSpec, ImageData] = {}

    def measure(self, why: str, point: PointRecord) -> Measured:
        """The trained network under the point's knobs, on every test image."""
        trial = self.store.trial(self.spec.study, point.kind, point.trial)
        job = job_of(self.spec, trial, str(self.settings.checkpoints))
        net, _, _ = trained_net(job)
        data = self._tested(job.data)
        rows = rows_of(net, data.validation, data, files=self.files, execution=Execution())
        split = data.validation if rows is None else rows
        table = evaluate(net, split, data, Knobs(**point.knobs))
        return Measured(why, point, table.accuracy, table.macs_mean)

    def _tested(self, spec: DataSpec) -> ImageData:
        """The study's images at a size, with those of test in place of validation's."""
        if spec not in self._data:
            split = test_split(spec).some(self.limit)
            self._data[spec] = replace(load_data(spec), validation=split)
        return self._data[spec]

    @property
    def images(self) -> int:
        """How many test images are measured."""
        return len(self._tested(data_spec(self.spec)).validation)


def main() -> None:
    args = arguments()
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            report(args, seed, Path(args.folder or folder))


def report(args: argparse.Namespace, seed: int, folder: Path) -> None:
    """One search from one seed, and what its points do on test."""
    from search.front.stored import study_front

    settings = Settings(storage=Storage(folder=folder))
    text = study_text(args, seed)
    spec = parse_study(text, "study")
    seconds = searched(spec, text, settings, args.workers)
    store = Store.open(settings.database_url)
    record = store.study(spec.study)
    found = study_front(store, record)
    dynamic = [p for p in found.points if p.kind == "search"]
    images = Examiner(store, spec, settings, args.test)
    training = args.images - args.validation
    sizes = " and ".join(map(str, args.pixels))
    print(f"seed {seed}: {args.backbone} at {sizes} px, {training} training images")
    print(f"{args.validation} images of validation, {images.images} of test")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {versions()}")
    print(
        f"{args.trials} trials in {seconds:.0f} s; first front after {first_front(store, record):.0f} s"
    )
    points = {
        **chosen(dynamic, found.baselines),
        **{f"static: baseline {p.trial}": p for p in found.baselines},
    }
    measured = [images.measure(why, point) for why, point in points.items()]
    show(measured, images.images)
    verdict(measured, best_static(found.baselines), images.images)
    store.close()


def first_front(store: Store, record: Any) -> float:
    """Seconds from the start of the first training to the end of the first dynamic network's."""
    trials = store.trials(record.name)
    ended = [t.finished_at for t in trials if t.kind == "search" and t.finished_at and not t.error]
    return (min(ended) - min(t.started_at for t in trials)).total_seconds()


def show(measured: list[Measured], test: int) -> None:
    """A line for each point: what it does on validation, then on test."""
    print(f"{'':44} {'MACs':>8}  validation            test (MACs)")
    for one in sorted(measured, key=lambda m: m.point.macs_mean):
        low, high = wilson(one.accuracy, test)
        ours = (
            f"{one.point.accuracy:.1%} ({one.point.accuracy_low:.1%}-{one.point.accuracy_high:.1%})"
        )
        print(
            f"{one.why:44} {one.point.macs_mean / 1e6:6.1f} M  {ours:20}  "
            f"{one.accuracy:.1%} ({low:.1%}-{high:.1%}), {one.macs / 1e6:.1f} M"
        )


def verdict(measured: list[Measured], static: PointRecord, test: int) -> None:
    """MACs at the best static network's accuracy over its MACs, and whether accuracy holds on test."""
    beside = next(m for m in measured if m.point.id == static.id)
    ours = next((m for m in measured if m.why.startswith("as accurate")), None)
    if ours is None:
        print("no dynamic network is as accurate on validation as the best static one")
        return
    ratio = ours.macs / beside.macs
    _, high = wilson(ours.accuracy, test)
    holds = "not below it by more than the interval" if high >= beside.accuracy else "BELOW IT"
    print(
        f"MACs at the best static network's accuracy over its own: {ratio:.2f} (goal {GOAL}); "
        f"on test {ours.accuracy:.1%} beside {beside.accuracy:.1%}: {holds}"
    )


def versions() -> str:
    import timm
    import torch

    return f"Python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}"


def study_parser(doc: str | None, *, own_study: bool = False) -> argparse.ArgumentParser:
    """Options of a benchmark that searches networks on a pretrained one, or, with `own_study`, any study file."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--weights", help="file of the pretrained model's weights")
    if own_study:
        given.add_argument("--study", help="a study file in place of the pretrained network's")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="name in timm")
    parser.add_argument("--data", required=not own_study, help="as `data` in a study file")
    parser.add_argument("--folder", help="keeps the study there; without it nothing stays")
    return parser


def arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--pixels", type=int, nargs="+", default=[96], help="sides of the images")
    parser.add_argument("--images", type=int, default=2000, help="training and validation together")
    parser.add_argument("--validation", type=int, default=400, help="images of validation")
    parser.add_argument(
        "--share", type=float, default=0.1, help="of the data that validation is drawn from"
    )
    parser.add_argument("--test", type=int, default=1000, help="test images, at most")
    parser.add_argument("--places", nargs="+", default=["all", "late", "3+4", "4", "2+3+4"])
    parser.add_argument(
        "--reads", nargs="+", default=["all", "own"], help="what exits read, as `exit_reads`"
    )
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
