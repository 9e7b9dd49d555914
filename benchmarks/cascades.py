"""What cascades are worth: the front of a study with and without them, chosen on validation, measured once on test.

The study has frozen pretrained networks with exits, at two or more sizes of the images. Cascades join its trainings and
cost no training. The test images are read once, at the end, for the points of both fronts. Accuracies have 95 %
intervals (Wilson). "At the best static network's accuracy" is chosen on validation: the cheapest point of each front
that is as accurate there as the most accurate baseline.

    python benchmarks/cascades.py --weights FILE.safetensors --backbone tf_efficientnet_lite0 --data parquet:PATH
    python benchmarks/cascades.py --study benchmarks/search_bench/digits/study.yml --trials 60
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.pretrained import (
    SHARES,
    best_static,
    exits_space,
    searched,
    study_parser,
    versions,
)
from search.front.curves import volume
from search.front.stored import study_front
from search.measure.cascade_choice import Region
from search.measure.cascade_tables import Floats, outcomes
from search.report.amounts import macs as macs_text
from search.run.cascade_passes import largest, trained_member
from search.run.data import data_spec
from search.spec import parse_study
from search.study_keys import StudySpec
from spaces.contract.cascades import is_cascade, rule_of
from spaces.contract.resolution import IMAGE_SIZE
from storage.records import PointRecord, trainings_of
from storage.settings import Settings, Storage
from storage.store import Store
from trainers.data.splits import Split, test_split
from trainers.execution import Execution
from trainers.feature_files import FeatureFiles
from trainers.significance import wilson

Answers = tuple[Tensor, Floats]  # probabilities (N, C) and MACs (N,)


class Measured(NamedTuple):
    """A point on the test images."""

    accuracy: float
    macs: float


def study_text(args: argparse.Namespace, seed: int) -> str:
    """The study file of the search: the given one with other trials and seed, or that of frozen networks."""
    if args.study:
        given = yaml.safe_load(Path(args.study).read_text())
        given |= {"study": "cascades", "seed": seed, "run": {"workers": 0, "threads": 1}}
        given["budget"]["trials"] = args.trials
        given["data"] = args.data or given["data"]
        return json.dumps(given)
    keys: dict[str, Any] = {
        "study": "cascades",
        "data": args.data,
        "families": ["timm"],
        "image_size": args.pixels,
        "space": {"timm": exits_space(args)},
        "init_from": args.weights,
        "train_limit": args.train,
        "validation_limit": args.validation,
        "budget": {"trials": args.trials, "epochs": args.epochs},
        "seed": seed,
        "run": {"workers": 0, "threads": 1, "device": "cpu", "precision": "float32"},
    }
    return json.dumps(keys)  # which is YAML


@dataclass
class Examiner:
    """Measures points on test images; features of frozen trunks are computed once a size."""

    store: Store
    spec: StudySpec
    settings: Settings
    images: int
    _answers: dict[str, Answers] = field(default_factory=dict)
    splits: dict[int | None, Split] = field(default_factory=dict)

    def measure(self, point: PointRecord) -> Measured:
        """Accuracy and mean MACs of a point, a cascade or one network."""
        if not is_cascade(point.knobs):
            size = point.params.get(IMAGE_SIZE)
            return self._measured(*self._of(point, size), self.split(size).labels)
        named = point.knobs["members"]
        size = largest([one.get(IMAGE_SIZE) for one in named])
        members = []
        for (kind, number), one in zip(trainings_of(point), named, strict=True):
            known = self.store.points(self.spec.study, kind=kind, number=number)
            members.append(next(p for p in known if p.knobs == one["knobs"]))
        each = [self._of(member, size) for member in members]
        found = outcomes([p for p, _ in each], [macs for _, macs in each], rule_of(point.knobs))
        return self._measured(found.probabilities, found.macs, self.split(size).labels)

    def split(self, size: int | None) -> Split:
        """The first test images of an even spread, at this size."""
        if size not in self.splits:
            whole = test_split(data_spec(self.spec, size))
            self.splits[size] = whole.some(self.images)
        return self.splits[size]

    def _of(self, point: PointRecord, size: int | None) -> Answers:
        """What one network answers where images of this size, or of their own, come in."""
        key = f"{point.id} at {size}"
        if key not in self._answers:
            trial = self.store.trial(self.spec.study, point.kind, point.trial)
            member = trained_member(self.spec, trial, point, str(self.settings.checkpoints))
            files = FeatureFiles(self.settings.features, self.settings.feature_bytes)
            self._answers[key] = member.answers(self.split(size), Execution(), files)
        return self._answers[key]

    @staticmethod
    def _measured(probabilities: Tensor, macs: Floats, labels: Tensor) -> Measured:
        right = (probabilities.argmax(1) == labels).double().mean()
        return Measured(float(right), float(macs.mean()))


def report(args: argparse.Namespace, seed: int, folder: Path) -> None:
    """One study from one seed, both of its fronts on validation and on test."""
    settings = Settings(storage=Storage(folder=folder))
    text = study_text(args, seed)
    spec = parse_study(text, "study", lambda message: print(message, file=sys.stderr))
    seconds = searched(spec, text, settings, 0)
    store = Store.open(settings.database_url)
    record = store.study(spec.study)
    fronts = {
        "without": study_front(store, record, cascades=False),
        "with": study_front(store, record),
    }
    static = best_static(fronts["without"].baselines)
    examiner = Examiner(store, spec, settings, args.test)
    shown = {p.id: p for front in fronts.values() for p in front.members} | {static.id: static}
    test = {id: examiner.measure(p) for id, p in shown.items()}
    images = len(next(iter(examiner.splits.values())).labels)
    print(f"seed {seed}: {args.study or described(args)}, {images} test images; {versions()}")
    print(f"{args.trials} trials and cascades in {seconds:.0f} s")
    region = Region(static.accuracy - 0.1, static.macs_mean)
    for name, front in fronts.items():
        own = front.members
        on_test = [test[p.id] for p in own]
        print(
            f"{name:8} {len(own)} points, hypervolume on validation "
            f"{_volume(region, own_values(own)):.4f}, on test {_volume(region, on_test):.4f}"
        )
        _at_static(own, static, test, images)
        for share in SHARES:
            _within(own, share, static, test, images)
    for name, some in (
        ("cascades", [p for p in fronts["with"].members if is_cascade(p.knobs)]),
        ("others", fronts["without"].members),
    ):
        if some:
            flattered = np.mean([p.accuracy - test[p.id].accuracy for p in some])
            said = np.mean([p.extra.get("selection_bias") or 0.0 for p in some])
            print(
                f"{name}: validation - test {flattered:+.2%}, estimated {said:+.2%}, n = {len(some)}"
            )
    store.close()


def described(args: argparse.Namespace) -> str:
    """The frozen networks' study, in words."""
    return (
        f"{args.backbone} at {args.pixels} px, {args.train} training images, "
        f"{args.validation} of validation"
    )


def own_values(points: Iterable[PointRecord]) -> list[Measured]:
    """What points do on validation."""
    return [Measured(p.accuracy, p.macs_mean) for p in points]


def _volume(region: Region, values: Sequence[Measured]) -> float:
    """Hypervolume up to the best static network's MACs, down to 0.1 below its accuracy."""
    accuracy, macs = (np.array(column) for column in zip(*values, strict=True))
    return volume(region.curve(accuracy, macs))


def _at_static(
    members: Sequence[PointRecord], static: PointRecord, test: dict[Any, Measured], images: int
) -> None:
    """The cheapest point that is as accurate on validation as the best static network, on test."""
    as_good = [p for p in members if p.accuracy >= static.accuracy]
    if not as_good:
        print("         no point is as accurate on validation as the best static network")
        return
    p = min(as_good, key=lambda p: p.macs_mean)
    for what, one in (("static", static), ("point", p)):
        found = test[one.id]
        low, high = wilson(found.accuracy, images)
        print(
            f"         {what}: validation {one.accuracy:.1%}, test {found.accuracy:.1%} "
            f"({low:.1%}-{high:.1%}) at {macs_text(found.macs)}, "
            f"{found.macs / test[static.id].macs:.2f} of the static network's"
        )


def _within(
    members: Sequence[PointRecord],
    share: float,
    static: PointRecord,
    test: dict[Any, Measured],
    images: int,
) -> None:
    """The most accurate point on validation within a share of the best static network's MACs, on test."""
    within = [p for p in members if p.macs_mean <= share * static.macs_mean]
    if within:
        p = max(within, key=lambda one: one.accuracy)
        low, high = wilson(test[p.id].accuracy, images)
        print(
            f"         within {share:.0%}: validation {p.accuracy:.1%}, test {test[p.id].accuracy:.1%} "
            f"({low:.1%}-{high:.1%}) at {macs_text(test[p.id].macs)}"
        )


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            report(args, seed, Path(args.folder or folder))


def arguments() -> argparse.Namespace:
    parser = study_parser(__doc__, own_study=True)
    parser.add_argument("--pixels", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--train", type=int, default=1600, help="training images")
    parser.add_argument("--validation", type=int, default=400, help="images of validation")
    parser.add_argument("--test", type=int, default=1000, help="test images, at most")
    parser.add_argument("--places", nargs="+", default=["all", "late", "3+4", "4"])
    parser.add_argument("--reads", nargs="+", default=["all", "own"], help="as `exit_reads`")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
