"""Whether picks keep their word: chosen on drawn validation images, measured on the others, many times.

A study that `benchmarks/cascades.py --folder FOLDER` left is read. All of its trainings answer some of its test images,
at every exit, which are then drawn as validation again and again: thresholds, cascades and picks are chosen on these as
the product does, and measured on the others. No training is repeated, and none saw any of these images.

    python benchmarks/cascades.py --folder FOLDER --weights FILE.safetensors --data parquet:PATH --validation 1000
    python benchmarks/picks.py FOLDER --images 6000 --validation 1000 --draws 100
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.cascades import own_values
from benchmarks.pretrained import best_static
from search.front.comparison import at_least, better
from search.front.flattery import expected, flattery
from search.front.pareto import front
from search.front.pick import MARGIN, pick
from search.measure.cascade_choice import Bounds, Region, kept_cascades
from search.measure.cascade_tables import MemberTable, outcomes_of, room_for, worth_joining
from search.measure.exit_points import exit_points
from search.report.front_points import thinned
from search.run.jobs import job_of
from search.run.worker import trained_net
from search.spec import stored_spec
from spaces.contract.knobs import Knobs
from storage.records import Kind, PointRecord, State
from storage.settings import Settings, Storage
from storage.store import Store
from trainers.data.splits import Split, test_split
from trainers.execution import Execution
from trainers.exit_logits import ExitLogits, exit_logits
from trainers.feature_files import FeatureFiles
from trainers.frozen import rows_of
from trainers.logits import image_logits

OPEN = Knobs(policy="always_on")
MEMBERS = 6  # of a training, at most
Ints = NDArray[np.int64]
Chosen = Callable[[Sequence[PointRecord], Sequence[PointRecord]], PointRecord]


@dataclass(frozen=True)
class Training:
    """What a trained network answers to all images at every exit."""

    kind: Kind
    number: int
    parameters: int
    raw: ExitLogits

    def of(self, images_N: Ints) -> ExitLogits:
        """The same of some images."""
        chosen = torch.from_numpy(images_N)
        raw = self.raw
        return replace(
            raw, logits=raw.logits[:, chosen], macs=raw.macs[:, chosen], labels=raw.labels[chosen]
        )


@dataclass(frozen=True)
class Seen:
    """A point as validation shows it, whose bits are in it, and its answers and costs on the images of the test."""

    point: PointRecord
    right: NDArray[np.bool_]
    macs: float
    # of a member: probabilities and MACs on validation and on test
    answers: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None


def trainings(folder: Path, images: int) -> list[Training]:
    """The study's complete trainings, and what they answer to so many test images."""
    settings = Settings(storage=Storage(folder=folder))
    store = Store.open(settings.database_url)
    spec = stored_spec(store.study("cascades").spec)
    files = FeatureFiles(settings.features, settings.feature_bytes)
    splits: dict[int, Split] = {}
    found = []
    for trial in store.trials(spec.study, state=State.COMPLETE):
        if trial.kind not in (Kind.SEARCH, Kind.BASELINE):
            continue
        job = job_of(spec, trial, str(settings.checkpoints))
        net, _, data = trained_net(job)
        if data.height not in splits:
            splits[data.height] = test_split(job.data).some(images)
        split = splits[data.height]
        rows = rows_of(net, split, data, files=files, execution=Execution())
        split = split if rows is None else rows
        if net.exit_count:
            raw = exit_logits(net, split, data, OPEN)
        else:
            logits, macs = image_logits(net, split, data, OPEN)
            raw = ExitLogits(logits[None], macs[None], split.labels, {})
        parameters = sum(p.numel() for p in net.parameters())
        found.append(Training(trial.kind, trial.number, parameters, raw))
    store.close()
    return found


def seen(one: Training, validation_N: Ints, test_N: Ints) -> Iterator[Seen]:
    """The training's operating points, chosen on the validation images alone."""
    here, there = one.of(validation_N), one.of(test_N)
    settings: list[tuple[Knobs, float | None]] = [(OPEN, None)]
    if len(here.logits) > 1:
        settings = [(p.knobs, p.selection_bias) for p in exit_points(here, OPEN)]
    for knobs, bias in settings:
        own, other = answered(here, knobs), answered(there, knobs)
        rights = [
            (p.argmax(1) == raw.labels).numpy() for (p, _), raw in ((own, here), (other, there))
        ]
        point = point_of(rights[0], own[1], one.kind, one.number, one.parameters, bias)
        yield Seen(point, rights[1], float(other[1].mean()), (own, other))


def answered(raw: ExitLogits, knobs: Knobs) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) and MACs (N,) under the knobs."""
    rule = knobs.exits()
    logits_NC, macs_N = (raw.logits[-1], raw.macs[-1]) if rule is None else raw.under(rule)
    return logits_NC.softmax(1), macs_N.double()


def point_of(
    right_N: NDArray[np.bool_],
    macs_N: Tensor,
    kind: Kind,
    number: int,
    parameters: int,
    bias: float | None,
) -> PointRecord:
    """A record as the study would store it, as far as picks read it."""
    accuracy, macs = float(right_N.mean()), float(macs_N.mean())
    return PointRecord(
        trial=number,
        kind=kind,
        family="timm",
        params={},
        knobs={},
        accuracy=accuracy,
        accuracy_low=accuracy,
        accuracy_high=accuracy,
        macs_mean=macs,
        macs_p95=macs,
        macs_max=float(macs_N.max()),
        parameters=parameters,
        extra={} if bias is None else {"selection_bias": bias},
        right=np.packbits(right_N).tobytes(),
    )


def cascades(points: Sequence[Seen], labels: tuple[Ints, Ints]) -> Iterator[Seen]:
    """The cascades that the study would keep."""
    own: dict[tuple[Kind, int], list[Seen]] = {}
    for one in points:
        own.setdefault(one.point.training, []).append(one)
    members = [one for some in own.values() for one in thinned(on_front(some), MEMBERS)]
    accuracy, macs = values(members)
    room = room_for(len(labels[0]), members[0].answers[0][0].shape[1])  # type: ignore[index]
    members = [members[i] for i in worth_joining(accuracy, macs, room)]
    here, there = (table_of(members, labels[side], side) for side in (0, 1))
    known = values(on_front(points))
    kept = kept_cascades(here, *known, Region(0.1, float(values(points)[1].max())), Bounds())
    for joined in kept.cascades:
        on_own, on_other = (
            outcomes_of(table, joined.members, joined.rule) for table in (here, there)
        )
        rights = [
            found.probabilities.argmax(1).numpy() == table.labels
            for found, table in ((on_own, here), (on_other, there))
        ]
        biases = [members[m].point.extra.get("selection_bias") or 0.0 for m in joined.members]
        bias = kept.selection_bias + float(np.mean(np.array(biases)[on_own.stage]))
        costs = torch.from_numpy(on_own.macs)
        point = point_of(rights[0], costs, Kind.CASCADE, 0, 0, bias)
        yield Seen(point, rights[1], float(on_other.macs.mean()))


def on_front(points: Iterable[Seen]) -> list[Seen]:
    """Those that no other beats on validation."""
    by_point = {id(one.point): one for one in points}
    return [by_point[id(p)] for p in front(one.point for one in by_point.values())]


def values(points: Sequence[Seen]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy and MACs on validation."""
    accuracy, macs = zip(*own_values(one.point for one in points), strict=True)
    return np.array(accuracy), np.array(macs)


def table_of(members: Sequence[Seen], labels_N: Ints, side: int) -> MemberTable:
    """What cascades are searched on: of validation (0), or of test (1)."""
    answers = [one.answers[side] for one in members if one.answers]
    trained = sorted({one.point.training for one in members})
    return MemberTable(
        torch.stack([probabilities for probabilities, _ in answers]),
        np.stack([macs.numpy() for _, macs in answers]),
        labels_N,
        np.array([trained.index(one.point.training) for one in members]),
        np.array([one.point.macs_max for one in members]),
        np.array([one.point.parameters for one in members], dtype=np.float64),
    )


def as_shown(members: Sequence[PointRecord], baselines: Sequence[PointRecord]) -> PointRecord:
    """The cheapest point as accurate on validation as the best static network."""
    static = best_static(list(baselines))
    known = [p for p in (*members, static) if p.accuracy >= static.accuracy]
    return min(known, key=lambda p: p.macs_mean)


def less_flattery(members: Sequence[PointRecord], baselines: Sequence[PointRecord]) -> PointRecord:
    """The same with what thresholds flatter subtracted."""
    flattered = flattery(members)
    lower = [replace(p, accuracy=p.accuracy - flattered.get(p.kind, 0.0)) for p in members]
    chosen = as_shown(lower, baselines)
    return next((p for p, q in zip(members, lower, strict=True) if q is chosen), chosen)


def surely(members: Sequence[PointRecord], baselines: Sequence[PointRecord]) -> PointRecord:
    """The cheapest that is surely within the margin of the best static network, nothing subtracted."""
    static = best_static(list(baselines))
    known = [p for p in members if p.macs_mean <= static.macs_mean and at_least(p, static, -MARGIN)]
    return min((*known, static), key=lambda p: p.macs_mean)


RULES: dict[str, Chosen] = {
    "as validation shows": as_shown,
    "thresholds' flattery subtracted": less_flattery,
    "surely within one point": surely,
    **{
        rule: partial(
            lambda rule, members, baselines: pick(members, rule, baselines=baselines), rule
        )
        for rule in ("equal", "efficient", "best")
    },
}


def drawn(
    known: Sequence[Training], validation: int, seed: int
) -> Iterator[tuple[str, list[float]]]:
    """What each rule picks on one draw of validation images, see `report`."""
    order = np.random.default_rng(seed).permutation(len(known[0].raw.labels))
    parts = np.sort(order[:validation]), np.sort(order[validation:])
    points = [one for training in known for one in seen(training, *parts)]
    labels = known[0].raw.labels.numpy()
    points += cascades(points, (labels[parts[0]], labels[parts[1]]))
    by_point = {id(one.point): one for one in points}
    baselines = [one.point for one in points if one.point.kind == Kind.BASELINE]
    members = [one.point for one in on_front(points)]
    static = by_point[id(best_static(baselines))]
    for name, rule in RULES.items():
        point = rule(members, baselines)
        one, hoped = by_point[id(point)], expected(point, members, baselines, rule)
        assert hoped is not None
        accuracy, beside = float(one.right.mean()), float(static.right.mean())
        ours, theirs = (on_test(each) for each in (one, static))
        yield (
            name,
            [
                one.macs / static.macs,
                better(theirs, ours),
                accuracy < beside - MARGIN,
                accuracy - beside,
                point.accuracy - accuracy,
                hoped.accuracy - accuracy,
            ],
        )


def on_test(one: Seen) -> PointRecord:
    """The point as test shows it."""
    accuracy = float(one.right.mean())
    return replace(one.point, accuracy=accuracy, right=np.packbits(one.right).tobytes())


def report(found: dict[str, list[list[float]]], draws: int) -> None:
    """Means over the draws."""
    print(f"n = {draws} draws; accuracies in points")
    print(
        f"{'':34}{'MACs':>7}{'sign. worse':>13}{'> 1 worse':>11}{'- static':>10}"
        f"{'validation - test':>19}{'expected - test':>17}"
    )
    for name, rows in found.items():
        macs, worse, far, ahead, flattered, left = np.mean(rows, 0)
        print(
            f"{name:34}{macs:7.2f}{worse:13.0%}{far:11.0%}{100 * ahead:+10.2f}"
            f"{100 * flattered:+19.2f}{100 * left:+17.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of a study that benchmarks/cascades.py left")
    parser.add_argument("--images", type=int, default=6000, help="of the test, to draw from")
    parser.add_argument("--validation", type=int, default=1000, help="images of a draw")
    parser.add_argument("--draws", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = trainings(args.folder, args.images)
    found: dict[str, list[list[float]]] = {}
    for seed in range(args.draws):
        for name, row in drawn(known, args.validation, seed):
            found.setdefault(name, []).append(row)
    report(found, args.draws)


if __name__ == "__main__":
    main()
