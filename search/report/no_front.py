"""Why a study has no front, and what can be done."""

from __future__ import annotations

from collections import Counter

from search.front.eligible import ON_OFFER, repeatable
from search.front.stored import majority_share
from search.report.amounts import percent
from storage.records import Kind, PointRecord, State, StudyRecord, training_text
from storage.store import Store
from trainers.metrics import ACCURACY, METRICS, Metric


def no_front_text(store: Store, record: StudyRecord, family: str | None = None) -> str:
    """What came of the trainings of a study without a front, in one line, with what to do next."""
    name, of = record.name, f" of {family}" if family else ""
    trials = [t for t in store.trials(record.name) if family in (None, t.family)]
    own = [t for t in trials if t.kind == Kind.SEARCH]
    states = Counter(t.state for t in own)
    done, failed = states[State.COMPLETE] + states[State.STOPPED], states[State.FAILED]
    points = [p for p in store.points(name) if p.kind in ON_OFFER and family in (None, p.family)]
    if repeated := repeatable(points):
        best = max(repeated, key=lambda p: p.accuracy)
        ends = f"{_trials(done, of)} done" + (f", {failed} failed" if failed else "")
        look = f", or look at one: dynafront inspect {name} --trial {best.trial}"
        return (
            f"study {name}: {ends}, and no network is {_worse_than(store, record, best)}. Train longer (budget.epochs, "
            f"under another `study:` name), give more images{look if best.kind == Kind.SEARCH else ''}"
        )
    broken = [t for t in trials if t.state == State.FAILED and t.error]
    if broken and not done:
        last = broken[-1]
        return (
            f"study {name}: nothing{of} could be trained, {_trainings(len(broken))} failed. The last, "
            f"{training_text(last.kind, last.number)}: {last.error}. Put that right and search again; all reasons: "
            f"dynafront status {name}"
        )
    if done:
        return f"study {name}: {_trials(done, of)} done, but all answers are drawn at random, and cannot be exported"
    return f"study {name}: no trial{of} is done yet; see dynafront status {name}"


def _worse_than(store: Store, record: StudyRecord, best: PointRecord) -> str:
    """What the best network is not better than, and what it has."""
    metric, chance = METRICS[best.metric], record.reference["accuracy"]
    if metric is not ACCURACY:
        return _below(best, metric, majority_share(store, record))
    if best.accuracy <= chance:
        return f"better than guessing, which is right for {percent(chance)}; the best has {percent(best.accuracy)}"
    low, high = percent(best.accuracy_low), percent(best.accuracy_high)
    majority = percent(majority_share(store, record))
    return (
        f"significantly better than always answering the most frequent class, which is right for {majority}; the best "
        f"has {percent(best.accuracy)} (95 % interval {low} to {high})"
    )


def _below(best: PointRecord, metric: Metric, floor: float) -> str:
    """The same by another metric than accuracy; `floor` is the better of guessing and always the same answer."""
    low, high = percent(best.accuracy_low), percent(best.accuracy_high)
    return (
        f"significantly better than guessing and always answering {metric.always}, which have up to {percent(floor)} "
        f"{metric.label}; the best has {percent(best.accuracy)} (95 % interval {low} to {high})"
    )


def _trials(count: int, of: str) -> str:
    return f"1 trial{of} is" if count == 1 else f"{count} trials{of} are"


def _trainings(count: int) -> str:
    return f"{count} training{'s' * (count != 1)}"
