"""A point of a trained network that ends at an exit: what it does then, measured on validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from search.measure.measured_point import measured_point
from search.run.job import Job
from search.run.measured_net import measured_net
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.deploy.generic import needed_parameters
from storage.records import OperatingPoint, PointRecord, training_text
from trainers.evaluate import evaluate
from trainers.metrics import METRICS


def ended_point(job: Job, point: PointRecord, exit: int, say: Callable[[str], None]) -> PointRecord:
    """The point whose images leave at exit number `exit`, from 1, at the latest; it has no id, for it is not stored.

    Exits before it keep their thresholds. Raises ValueError for networks that cannot end there.
    """
    net, _, data = measured_net(job, Knobs(**point.knobs), say)
    _check(net, exit, training_text(*point.training))
    knobs = ended_knobs(Knobs(**point.knobs), exit, net.exit_count)
    say(f"measuring on {len(data.validation)} validation images, ended at exit {exit}")
    table = evaluate(net, data.validation, data, knobs, rates=point.rates, seed=job.seed)
    measured = measured_point(
        knobs,
        table,
        METRICS[job.metric],
        parameters=needed_parameters(net, knobs, point.rates),
        rates=point.rates,
    )
    return replace(
        point, id=None, **{one.name: getattr(measured, one.name) for one in fields(OperatingPoint)}
    )


def ended_knobs(knobs: Knobs, exit: int, exits: int) -> Knobs:
    """The knobs with thresholds by which all images leave at exit number `exit`, from 1, of so many at the latest."""
    rule = "maxprob" if knobs.exit_rule in ("none", "every") else knobs.exit_rule
    before = [1.0] * (exit - 1) if knobs.exits() is None else knobs.exit_thresholds[: exit - 1]
    thresholds = (*before, -1.0, *[1.0] * (exits - exit))
    return replace(knobs, exit_rule=rule, exit_thresholds=thresholds, fallback="deepest")


def _check(net: DynamicNet, exit: int, training: str) -> None:
    """Raise ValueError where the network has no such exit, or its exits are no place to end at."""
    count = net.exit_count
    if not count:
        raise ValueError(
            f"--exit {exit}: the network of {training} has no exits; leave it out, or choose a --point of one that has"
        )
    if any(gate.kind == "exit" for gate in net.gates):
        raise ValueError(
            f"--exit {exit}: gates decide who leaves {training}'s network; it cannot end at an exit, leave it out"
        )
    if exit > count:
        known = "exit 1 alone" if count == 1 else f"exits 1 to {count}"
        raise ValueError(f"--exit {exit}: the network of {training} has {known}; give one of them")
