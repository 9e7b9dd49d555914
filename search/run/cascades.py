"""The cascades of a study: searched when its trainings have ended, and stored as operating points of one record.

Cascades cost no training. They are searched on what every training answered to the validation images; those that are
kept are measured again by real passes, on images as the exported model gives them to its members.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from search.front.stored import study_front
from search.latency.cascades import cascade_ms
from search.latency.predict import latency_summary
from search.latency.table import MissingUnitsError
from search.measure.cascade_choice import Bounds, Region, kept_cascades
from search.measure.cascade_tables import Cascade, Floats, Outcomes, outcomes
from search.measure.measured_point import table_point
from search.objectives import MACS, Reference
from search.run.cascade_members import Member, members_of, table_of, trainings_with_answers
from search.run.cascade_passes import Passes, largest
from search.schedule.limits import FLOAT_BYTES
from search.spec import StudySpec
from search.study_keys import Limits
from spaces.contract.cascades import CASCADE
from spaces.contract.resolution import IMAGE_SIZE
from storage.kept_files import KeptFiles
from storage.records import LATENCIES, Kind, OperatingPoint
from storage.store import Store
from trainers.evaluate import Table, answers_of, top_answers
from trainers.metrics import Metric

logger = logging.getLogger(f"dynafront.{__name__}")

LATENCY_MAX = LATENCIES[-1]
NUMBER = 0  # of the one record that has a study's cascades


def update_cascades(
    store: Store,
    spec: StudySpec,
    kept: KeptFiles,
    passes: Passes,
    say: Callable[[str], None],
) -> bool:
    """Search the study's cascades, unless that was done for these trainings; whether there are others than before.

    `kept` has the answers of trainings; `passes` measure.
    """
    known = store.find_trial(spec.study, Kind.CASCADE, NUMBER)
    wanted = spec.cascades
    trainings = trainings_with_answers(store, spec, kept) if wanted else []
    names = [[str(one.kind), one.number] for one in trainings]
    if known is None and len(trainings) < 2:
        return False
    if known is not None and wanted and _has(known.result, names):
        return False
    started = time.perf_counter()
    points = _found(store, spec, members_of(store, spec, trainings, kept), passes, say)
    if known is None:
        store.add_trial(spec.study, Kind.CASCADE, NUMBER, CASCADE, {}, spec.seed, 0)
    store.finish_trial(
        spec.study,
        Kind.CASCADE,
        NUMBER,
        points=points,
        result={"trainings": names},
        seconds=time.perf_counter() - started,
    )
    return True


def _has(result: Mapping[str, Any], names: Sequence[list[Any]]) -> bool:
    """Whether these trainings were searched before; some of those of then may have been cleaned up."""
    return all(one in result["trainings"] for one in names)


def _found(
    store: Store,
    spec: StudySpec,
    members: Sequence[Member],
    passes: Passes,
    say: Callable[[str], None],
) -> list[OperatingPoint]:
    if len({m.point.training for m in members}) < 2:
        return []
    say(f"searching cascades of {len(members)} operating points")
    record = store.study(spec.study)
    front = study_front(store, record, cascades=False).members
    accuracy, macs = (np.array([getattr(p, key) for p in front]) for key in ("top1", "macs_mean"))
    region = region_of(spec, Reference(**record.reference), accuracy, macs)
    kept = kept_cascades(table_of(members), accuracy, macs, region, bounds_of(spec.limits))
    logger.info("%d cascades, flattery %.4f", len(kept.cascades), kept.selection_bias)
    points, lacking = [], 0
    for i, one in enumerate(kept.cascades, 1):
        say(f"measuring cascade {i} of {len(kept.cascades)}")
        own = [members[m] for m in one.members]
        try:
            points.append(measured_cascade(one, own, passes, spec.metric, kept.selection_bias))
        except MissingUnitsError as error:
            lacking += 1
            logger.warning("a cascade has no predicted latency: %s", error)
    if lacking:
        say(f"{lacking} cascades are left out: the latency table lacks units; profile a new study")
    most = spec.limits.latency_ms or np.inf
    return [p for p in points if p.extra.get(LATENCY_MAX, 0.0) <= most]


def region_of(spec: StudySpec, reference: Reference, accuracy: Floats, macs: Floats) -> Region:
    """The part of the front that the study asks for."""
    wanted = spec.region
    best = float(accuracy.max(initial=0.0))
    within = best - wanted.within if wanted.within else 0.0
    floor = max(reference.accuracy, wanted.min_accuracy or 0.0, within)
    largest_macs = reference.largest.get(MACS.measure, float(macs.max(initial=1.0)))
    return Region(floor, min(wanted.max_macs or np.inf, largest_macs))


def bounds_of(limits: Limits) -> Bounds:
    """What a study's limits leave for all members of a cascade together."""
    by_size = 1e6 * limits.megabytes / FLOAT_BYTES if limits.megabytes else np.inf
    return Bounds(limits.macs or np.inf, min(limits.parameters or np.inf, by_size))


def measured_cascade(
    one: Cascade, members: Sequence[Member], passes: Passes, metric: Metric, bias: float
) -> OperatingPoint:
    """The cascade as an operating point, its members named by its knobs."""
    size = largest([m.trial.params.get(IMAGE_SIZE) for m in members])
    answers = [passes.answers(m.trial, m.point, size) for m in members]
    found = outcomes([a.probabilities for a in answers], [a.macs for a in answers], one.rule)
    labels = members[0].labels
    right = (found.probabilities.argmax(1) == labels).numpy()
    answer, top5 = top_answers(found.probabilities, labels)
    table = Table(answers_of([answer], [top5], labels), torch.from_numpy(found.macs)[None], {})
    shares = [float((found.stage >= k).mean()) for k in range(len(members))]
    more: dict[str, Any] = {
        "selection_bias": bias + _of_members(members, found),
        "answered": [_answered(found, right, k) for k in range(len(members))],
    }
    member_ms = [a.ms for a in answers if a.ms is not None]
    if passes.table is not None:
        ms = cascade_ms(member_ms, torch.from_numpy(found.stage), passes.table)
        more |= latency_summary(ms)
    parameters = sum(m.point.parameters for m in members)
    knobs = knobs_of(one, members, shares)
    return table_point(knobs, table, metric, parameters=parameters, more=more)


def knobs_of(one: Cascade, members: Sequence[Member], shares: Iterable[float]) -> dict[str, Any]:
    """What a cascade is, as it is stored; `shares` are those of the images that each member sees."""
    named = [
        {
            "kind": str(m.point.kind),
            "trial": m.point.trial,
            "knobs": m.point.knobs,
            "rates": m.point.extra["rates"],
            "share": share,
        }
        | ({IMAGE_SIZE: size} if (size := m.trial.params.get(IMAGE_SIZE)) else {})
        for m, share in zip(members, shares, strict=True)
    ]
    return {
        "policy": CASCADE,
        "rule": one.rule.rule,
        "thresholds": list(one.rule.thresholds),
        "committee": one.rule.committee,
        "members": named,
    }


def _of_members(members: Sequence[Member], found: Outcomes) -> float:
    """The flattery of thresholds within the members, by the share of the images that each answers."""
    own = [float(m.point.extra.get("selection_bias") or 0.0) for m in members]
    return sum(float((found.stage == k).mean()) * bias for k, bias in enumerate(own))


def _answered(found: Outcomes, right: np.ndarray, member: int) -> dict[str, float]:
    """Share of images that a member answers, and their accuracy."""
    here = found.stage == member
    return {
        "share": float(here.mean()),
        "accuracy": float(right[here].mean()) if here.any() else 0.0,
    }
