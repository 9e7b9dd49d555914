"""Which point of a study is meant: by its id, or by a rule and limits over the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from search.front.flattery import Expected, expected
from search.front.offer import NO_BOUNDS, budget_of
from search.front.pick import DEFAULT
from search.front.stored import StudyFront, study_cost, study_front
from search.front.within import Bounds, picked
from search.objectives import LATENCY, UNITS, macs_number, milliseconds
from search.report.amounts import macs, percent
from search.report.no_front import no_front_text
from storage.records import PointRecord, StudyRecord
from storage.store import Store
from trainers.metrics import ACCURACY, Metric

WORTH_SAYING = 0.8  # of the cost, that a cheaper point may have
RULE_WORDS = {
    "efficient": "the cheapest point that is as good as the best",
    "equal": "the cheapest point that keeps the accuracy of the best static network",
    "best": "the most accurate point",
    "fastest": "the cheapest point",
    "knee": "the knee",
}


@dataclass(frozen=True)
class Choice:
    """What the user asked for: the id of a point; or a rule, limits, or both."""

    pick: str | None = None
    max_macs: str | None = None
    max_latency_ms: str | None = None
    min_accuracy: float | None = None
    family: str | None = None
    point: int | None = None

    @property
    def rule(self) -> str:
        """The rule; a limit alone asks for the best (or the cheapest) that keeps it, nothing for the default."""
        if self.pick:
            return self.pick
        if self.max_macs is not None or self.max_latency_ms is not None:
            return "best"
        return "fastest" if self.min_accuracy is not None else DEFAULT

    @property
    def is_given(self) -> bool:
        """Whether anything was asked for."""
        return self != Choice()

    @property
    def bounds(self) -> Bounds:
        """The limits as numbers. Raises ValueError for what is none."""
        ms, most = self.max_latency_ms, self.max_macs
        return Bounds(
            max_macs=None if most is None else macs_number(most),
            max_latency_ms=None if ms is None else milliseconds(ms),
            min_accuracy=self.min_accuracy,
        )

    def words(self, metric: Metric = ACCURACY) -> str:
        """What is picked, and from which points: limits hold first, the rule picks among what is left."""
        if self.point is not None:
            return f"point {self.point}"
        limits = [] if self.family is None else [f"of family {self.family}"]
        if self.max_macs is not None:
            limits.append(f"of at most {macs(macs_number(self.max_macs))}")
        if self.max_latency_ms is not None:
            limits.append(f"of at most {LATENCY.text(milliseconds(self.max_latency_ms))}")
        if self.min_accuracy is not None:
            limits.append(f"of at least {percent(self.min_accuracy)} validation {metric.label}")
        among = f", among the points {' and '.join(limits)}" if limits else ""
        return f"{RULE_WORDS[self.rule]}{among}"

    @property
    def alias(self) -> str:
        """An MLflow alias that says how the point was picked."""
        if self.point is not None:
            return f"point-{self.point}"
        parts = [self.rule]
        if self.max_macs is not None:
            parts.append(f"max-{limit_text(macs_number(self.max_macs))}-macs")
        if self.max_latency_ms is not None:
            parts.append(f"max-{milliseconds(self.max_latency_ms):.9g}-ms".replace("+", ""))
        if self.min_accuracy is not None:
            parts.append(f"min-{self.min_accuracy:g}-accuracy".replace(".", "_"))
        if self.family is not None:
            parts.append(self.family)
        return "-".join(parts).lower().replace(".", "_")

    def check(self) -> None:
        """Raise ValueError where a point's id stands beside something else, or a limit cannot be."""
        if self.point is not None and self != Choice(point=self.point):
            raise ValueError(
                f"--point {self.point}: names one point already; leave out --pick, --max-macs, --max-latency-ms, "
                "--min-accuracy and --family, or --point"
            )
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise ValueError(
                f"--min-accuracy {self.min_accuracy}: give a share between 0 and 1, such as 0.95"
            )


def within_region(choice: Choice, record: StudyRecord) -> Choice:
    """The choice; where nothing but a family was asked for, with the budget that the study's file has as `region`."""
    budget = budget_of(record.spec)
    if choice != Choice(family=choice.family) or budget == NO_BOUNDS:
        return choice
    macs, ms = budget.max_macs, budget.max_latency_ms
    return replace(
        choice,
        pick=DEFAULT,
        max_macs=None if macs is None else limit_text(macs),
        max_latency_ms=None if ms is None else f"{ms:g}",
    )


def chosen(store: Store, record: StudyRecord, choice: Choice) -> PointRecord:
    """The chosen point, within the study's region. Raises ValueError with the nearest offer."""
    choice.check()
    front = study_front(store, record, choice.family)
    if choice.point is not None:
        return _by_id(store, record, front, choice.point)
    if not front.members:
        raise ValueError(no_front_text(store, record, choice.family))
    held = within_region(choice, record)
    try:
        return picked(held.rule, held.bounds, front.members, front.baselines, study_cost(record))
    except ValueError as error:
        if held == choice:
            raise
        raise ValueError(
            f"{error}; the study's file has this limit as `region`: --pick {DEFAULT} exports the point without it, "
            "--max-macs and --max-latency-ms set another one"
        ) from error


def expected_of(
    point: PointRecord, choice: Choice, front: StudyFront, record: StudyRecord
) -> Expected | None:
    """The accuracy to expect on other images of the point, which was chosen so from this front; None where unknown."""
    cost = study_cost(record)

    def again(members: Sequence[PointRecord], baselines: Sequence[PointRecord]) -> PointRecord:
        return picked(choice.rule, choice.bounds, members, baselines, cost)

    rule = again if choice.point is None else None
    return expected(point, front.members, front.baselines, rule)


def cheaper_text(
    point: PointRecord, choice: Choice, front: StudyFront, record: StudyRecord
) -> str | None:
    """For a point picked as the most accurate: a much cheaper one that is as good, as far as validation tells.

    The most accurate of many points is flattered most, and may be no better than that one on other images.
    """
    if choice.point is not None or choice.rule != "best":
        return None
    cost = study_cost(record)
    other = picked(DEFAULT, choice.bounds, front.members, front.baselines, cost)
    share = cost.of(other) / cost.of(point)
    if share > WORTH_SAYING:
        return None
    return (
        f"point {other.id} is as good, as far as validation can tell, at {share:.0%} of the cost: {other.accuracy:.2%} "
        f"at {cost.text(cost.of(other))}; --pick {DEFAULT} beside the limits exports it"
    )


def _by_id(store: Store, record: StudyRecord, front: StudyFront, wanted: int) -> PointRecord:
    """A point that may join the front, on it or not. A training that goes on gives its points new ids."""
    if any(p.id == wanted for p in front.points):
        return store.with_answers(store.points_by_id(record.name, [wanted]))[0]
    known = any(p.id == wanted for p in store.points(record.name))
    why = (
        "cannot be shipped: it is no better than chance, depends on random draws, or is of a finalist"
        if known
        else f"is not one of study {record.name}"
    )
    raise ValueError(f"--point {wanted}: {why}; dynafront front {record.name} shows the ids")


def limit_text(macs: float | str) -> str:
    """A limit as a person writes it: "20M" for 20e6. Raises ValueError for what is no number of MACs."""
    if isinstance(macs, str):
        return macs
    whole = macs_number(f"{macs:.0f}")
    for unit, scale in reversed(UNITS.items()):
        if whole % scale == 0:
            return f"{whole // scale}{unit}"
    return str(whole)
