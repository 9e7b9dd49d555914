"""What candidates take on the machine of a table before they are trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from search.latency.predict import NetLatency
from search.latency.table import LatencyTable, read_table
from search.objectives import Shape
from search.schedule.sizes import ShapeOf, shape_of
from search.spec import StudySpec
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.task import Task
from spaces.contract.units import Ran

OPEN = Knobs(policy="always_on")


def table_of(spec: StudySpec) -> LatencyTable | None:
    """The table that the study names, if it does. Raises ValueError where it cannot be read."""
    if spec.latency is None:
        return None
    try:
        return read_table(Path(spec.latency))
    except ValueError as error:
        raise ValueError(f"latency: {error}") from None


def shapes_of(spec: StudySpec) -> ShapeOf:
    """What gives a candidate's shape, with its latency where the study has a table."""
    return timed_shape(table_of(spec))


def timed_shape(table: LatencyTable | None) -> ShapeOf:
    """As `shape_of`, with the latency of the network with everything open on the table's machine.

    It raises ValueError also where the table lacks a unit of the network.
    """
    if table is None:
        return shape_of

    def shape(candidate: Candidate, task: Task) -> Shape:
        untimed, net = shape_of(candidate, task), untrained(candidate, task)
        clock = NetLatency(net, table)
        clock.costs(Knobs(), {gate.name: (0.5,) * gate.units for gate in net.gates})
        ms = float(clock.of(OPEN, {}, Ran(table.batch))[0])
        return replace(untimed, latency_ms=ms)

    return shape


def untrained(candidate: Candidate, task: Task) -> DynamicNet:
    """The candidate's network with random weights, for inference; nothing is downloaded."""
    config = replace(candidate.config, **candidate.family.rebuilt_with)
    return replace(candidate, config=config).build(task, 0).eval().requires_grad_(False)
