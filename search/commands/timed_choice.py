"""A point within a limit on latency: what is picked is timed before it is taken."""

from __future__ import annotations

from collections.abc import Callable

from search.commands.choice import Choice, chosen, within_region
from search.commands.same_data import check_same_data
from search.front.stored import study_cost, study_front
from search.objectives import LATENCY
from search.run.data import data_spec
from search.spec import stored_spec
from storage.records import TIMED, PointRecord, StudyRecord
from storage.settings import Settings
from storage.store import Store


def chosen_by_time(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    choice: Choice,
    say: Callable[[str], None],
) -> PointRecord:
    """The chosen point; with a limit on mean latency, one that was measured to keep it on the table's machine.

    A table predicts a network from its parts, and whole networks take a little more or less. So the pick is timed as
    a whole, stored, and picked again with what is known now, until the pick is one that was timed: see
    search.front.measured_latency. Elsewhere the prediction counts alone, which is said.
    One whose network cannot be read is taken as predicted.
    Raises ValueError with the nearest offer, or where the images are others than the study's.
    """
    point = chosen(store, record, choice)
    bounds = within_region(choice, record).bounds
    most = bounds.max_latency_ms
    if most is None or not bounds.on_mean_latency(study_cost(record)) or TIMED in point.extra:
        return point
    from search.export.timed_points import PointTimer

    check_same_data(store, record.name, data_spec(stored_spec(record.spec)))
    try:
        baselines = study_front(store, record, choice.family).baselines
        timer = PointTimer.of(store, record, settings, baselines)
    except ValueError as error:
        say(f"latencies are as predicted, not measured: {error}")
        return point
    while TIMED not in point.extra:
        measured = timer.timed(point, say, say)
        if measured is None:
            return point
        kept = "kept" if measured <= most else "not kept"
        say(
            f"point {point.id}: {LATENCY.text(LATENCY.of(point))} predicted, {LATENCY.text(measured)} measured; "
            f"the limit of {LATENCY.text(most)} is {kept}"
        )
        point = chosen(store, record, choice)
    return point
