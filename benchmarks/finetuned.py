"""Fine-tuning within an hour: exits on a pretrained network whose trunk is trained too, beside its static networks.

The baselines are the same network at each size of the images, trained by the same recipe; trials start from them, some
learn from their answers too (distillation). Points are chosen on validation: the most accurate within a share of the
best static network's MACs. So are those of parts of the study: without cascades, without distillation, of one size of
the images. Only chosen points are measured on test, once. Accuracies have 95 % intervals (Wilson).
A trial trains on from a baseline, so it has more epochs than that. A second study trains the static networks for as
many epochs as a baseline and a trial have together; the best static network is the most accurate of both.

    python benchmarks/finetuned.py --weights FILE.safetensors --backbone tf_efficientnet_lite0 --data parquet:PATH
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.cascades import Examiner, Measured
from benchmarks.pretrained import SHARES, best_static, searched, study_parser, versions
from search.front.stored import StudyFront, study_front
from search.spec import parse_study
from search.study_keys import StudySpec
from spaces.contract.cascades import is_cascade
from spaces.contract.resolution import IMAGE_SIZE
from storage.records import PointRecord
from storage.settings import Settings, Storage
from storage.store import Store
from trainers.significance import wilson

Part = Callable[[PointRecord], bool]


@dataclass(frozen=True)
class Studied:
    """A study that has been searched."""

    spec: StudySpec
    store: Store
    front: StudyFront
    examiner: Examiner


def study_text(args: argparse.Namespace) -> str:
    """The study file of the search."""
    space: dict[str, Any] = {
        "backbone": args.backbone,
        "trunk": "finetuned",
        "dynamics": "exits",
        "exits": "linear",
        "exit_reads": "all",
        "exit_places": args.places,
        "optimizer": "adamw",
        "adamw_lr": {"low": 2e-4, "high": 1e-3},
        "head_lr_mult": 10.0,
        "batch": 64,
        "distill": [0.0, 0.5],
    }
    keys: dict[str, Any] = {
        "study": "finetuned",
        "data": args.data,
        "families": ["timm"],
        "image_size": args.pixels,
        "space": {"timm": space},
        "init_from": args.weights,
        "train_limit": args.train,
        "validation_limit": args.validation,
        "budget": {
            "trials": args.trials,
            "epochs": args.epochs,
            "warm_epochs": args.warm_epochs,
            "hours": args.hours,
        },
        "seed": args.seed,
        "run": {"workers": 0, "threads": args.threads, "device": "cpu"},
    }
    return json.dumps(keys)  # which is YAML


def longer_text(args: argparse.Namespace) -> str:
    """The study file of static networks with the epochs of a baseline and a trial together; one trial is the least."""
    keys: dict[str, Any] = json.loads(study_text(args))
    keys["study"] = "longer"
    keys["budget"] = {"trials": 1, "epochs": args.epochs + args.warm_epochs, "warm_epochs": 1}
    return json.dumps(keys)


def parts(pixels: Sequence[int]) -> dict[str, Part]:
    """By name, which points each part of the study has."""
    found: dict[str, Part] = {
        "all": lambda p: True,
        "no cascades": lambda p: not is_cascade(p.knobs),
        "no distillation": lambda p: not is_cascade(p.knobs) and not p.params.get("distill"),
    }
    for side in pixels:
        found[f"{side} px"] = partial(_of_size, side)
    return found


def _of_size(side: int, point: PointRecord) -> bool:
    return not is_cascade(point.knobs) and point.params[IMAGE_SIZE] == side


def chosen(
    points: Sequence[PointRecord], static: PointRecord, named: Mapping[str, Part]
) -> dict[str, PointRecord]:
    """By part and share, the most accurate point on validation within this share of the static network's MACs."""
    found = {}
    for name, belongs in named.items():
        for share in SHARES:
            within = [p for p in points if p.macs_mean <= share * static.macs_mean and belongs(p)]
            if within:
                found[f"{name}, within {share:.0%}"] = max(within, key=lambda p: p.accuracy)
    return found


def line(why: str, point: PointRecord, test: Measured, static: Measured, images: int) -> str:
    """A point on validation, and on test beside the best static network."""
    low, high = wilson(test.accuracy, images)
    return (
        f"{why:28} validation {point.accuracy:.1%}, test {test.accuracy:.1%} ({low:.1%}-{high:.1%}) "
        f"at {test.macs / 1e6:.1f} M MACs, {test.macs / static.macs:.2f}"
    )


def studied(text: str, settings: Settings, images: int) -> Studied:
    """Search it, and say how long that took."""
    spec = parse_study(text, "study")
    started = time.process_time()
    seconds = searched(spec, text, settings, 0)
    cpu = time.process_time() - started
    store = Store.open(settings.database_url)
    trials = [t for t in store.trials(spec.study) if t.kind == "search" and t.finished_at]
    print(f"{spec.study}: {len(trials)} trials in {seconds:.0f} s, {cpu:.0f} s of CPU", flush=True)
    front = study_front(store, store.study(spec.study))
    return Studied(spec, store, front, Examiner(store, spec, settings, images))


def report(args: argparse.Namespace, folder: Path) -> None:
    """The search, and what its chosen points do on test."""
    settings = Settings(storage=Storage(folder=folder))
    print(f"{args.backbone} at {args.pixels} px, {args.train} training images, {args.validation}")
    print(f"of validation, {args.test} of test; seed {args.seed}; {versions()}")
    whole, longer = (
        studied(text, settings, args.test) for text in (study_text(args), longer_text(args))
    )
    statics = [(study, p) for study in (whole, longer) for p in study.front.baselines]
    tested = {p.id: study.examiner.measure(p) for study, p in statics}
    static = best_static([p for _, p in statics])
    beside = tested[static.id]
    print("MACs over the best static network's")
    for study, one in statics:
        epochs = study.spec.budget.epochs
        best = ", the best" if one.id == static.id else ""
        why = f"static, {epochs} epochs{best}"
        print(line(why, one, tested[one.id], beside, args.test), flush=True)
    dynamic = [p for p in whole.front.points if p.kind != "baseline"]
    for why, point in chosen(dynamic, static, parts(args.pixels)).items():
        if point.id not in tested:
            tested[point.id] = whole.examiner.measure(point)
        print(line(why, point, tested[point.id], beside, args.test), flush=True)
    for study in (whole, longer):
        study.store.close()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        report(args, Path(args.folder or folder))


def arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--pixels", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--train", type=int, default=4000, help="training images")
    parser.add_argument("--validation", type=int, default=1000, help="images of validation")
    parser.add_argument("--test", type=int, default=3000, help="test images, at most")
    parser.add_argument("--places", nargs="+", default=["all", "late", "3+4"])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=4, help="of a baseline")
    parser.add_argument("--warm-epochs", type=int, default=2, help="of a trial from a baseline")
    parser.add_argument("--hours", type=float, default=1.0, help="the search ends after so long")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
