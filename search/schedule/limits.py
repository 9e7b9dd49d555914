"""What a study allows a network to cost at most, checked on its shapes before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

from search.objectives import macs_text
from search.schedule.timed_shapes import shapes_of
from search.spec import StudySpec
from spaces.contract.family import Candidate
from spaces.contract.task import Task

FLOAT_BYTES = 4


def limit_of(spec: StudySpec, task: Task) -> Callable[[Candidate], str | None]:
    """Says why a candidate is beyond the study's limits, or cannot be built; None when it is within them.

    MACs are the baseline's, everything open: what a dynamic one costs is known after its training only. In a study with
    a latency table, a network with a unit that the table lacks is beyond the limits.
    """
    limits, shape_of = spec.limits, shapes_of(spec)
    limited = limits.macs or limits.parameters or limits.megabytes or spec.latency
    known: dict[str, str | None] = {}

    def excess(candidate: Candidate) -> str | None:
        try:
            shape = shape_of(candidate, task)
        except ValueError as error:  # infeasible once it is built
            return str(error)
        megabytes = FLOAT_BYTES * shape.parameters / 1e6
        if limits.macs and shape.macs > limits.macs:
            return f"{macs_text(shape.macs)} MACs with everything open, limits.macs allows {macs_text(limits.macs)}"
        if limits.parameters and shape.parameters > limits.parameters:
            allowed = macs_text(limits.parameters)
            return f"{macs_text(shape.parameters)} parameters, limits.parameters allows {allowed}"
        if limits.megabytes and megabytes > limits.megabytes:
            return f"weights of {megabytes:.1f} MB, limits.megabytes allows {limits.megabytes:g}"
        if limits.latency_ms and (shape.latency_ms or 0.0) > limits.latency_ms:
            return f"{shape.latency_ms:.3g} ms with everything open, limits.latency_ms allows {limits.latency_ms:g}"
        return None

    def limit(candidate: Candidate) -> str | None:
        if not limited:
            return None
        if candidate.key not in known:
            known[candidate.key] = excess(candidate)
        return known[candidate.key]

    return limit
