"""Which point of a front a person asks for: a rule, limits, or both."""

from __future__ import annotations

from dataclasses import dataclass

from search.front.pick import DEFAULT, pick
from search.front.stored import study_cost, study_front
from search.objectives import UNITS, macs_number
from search.report.amounts import macs, percent
from search.report.no_front import no_front_text
from storage.records import PointRecord, StudyRecord
from storage.store import Store
from trainers.metrics import ACCURACY, Metric

RULE_WORDS = {
    "efficient": "the cheapest point that is as good as the best",
    "best": "the most accurate point",
    "fastest": "the cheapest point",
    "knee": "the knee",
}


@dataclass(frozen=True)
class Choice:
    """What the user asked for: a rule, limits, or both."""

    pick: str | None = None
    max_macs: str | None = None
    min_accuracy: float | None = None
    family: str | None = None

    @property
    def rule(self) -> str:
        """The rule; a limit alone asks for the best (or the cheapest) that keeps it, nothing for the default."""
        if self.pick:
            return self.pick
        if self.max_macs is not None:
            return "best"
        return "fastest" if self.min_accuracy is not None else DEFAULT

    def words(self, metric: Metric = ACCURACY) -> str:
        """What is picked, and from which points: limits hold first, the rule picks among what is left."""
        limits = [] if self.family is None else [f"of family {self.family}"]
        if self.max_macs is not None:
            limits.append(f"of at most {macs(macs_number(self.max_macs))}")
        if self.min_accuracy is not None:
            limits.append(f"of at least {percent(self.min_accuracy)} validation {metric.label}")
        among = f", among the points {' and '.join(limits)}" if limits else ""
        return f"{RULE_WORDS[self.rule]}{among}"

    @property
    def alias(self) -> str:
        """An MLflow alias that says how the point was picked."""
        parts = [self.rule]
        if self.max_macs is not None:
            parts.append(f"max-{self.max_macs}-macs")
        if self.min_accuracy is not None:
            parts.append(f"min-{self.min_accuracy:g}-accuracy".replace(".", "_"))
        if self.family is not None:
            parts.append(self.family)
        return "-".join(parts).lower().replace(".", "_")


def chosen(store: Store, record: StudyRecord, choice: Choice) -> PointRecord:
    """The point of the study's front that is asked for. Raises ValueError with the nearest offer."""
    if choice.min_accuracy is not None and not 0 <= choice.min_accuracy <= 1:
        raise ValueError(
            f"--min-accuracy {choice.min_accuracy}: give a share between 0 and 1, such as 0.95"
        )
    limit = None if choice.max_macs is None else macs_number(choice.max_macs)
    members = study_front(store, record, choice.family).members
    if not members:
        raise ValueError(no_front_text(store, record, choice.family))
    return pick(
        members,
        choice.rule,
        max_macs=limit,
        min_accuracy=choice.min_accuracy,
        cost=study_cost(record),
    )


def limit_text(macs: float | str) -> str:
    """A limit as a person writes it: "20M" for 20e6. Raises ValueError for what is no number of MACs."""
    if isinstance(macs, str):
        return macs
    whole = macs_number(f"{macs:.0f}")
    for unit, scale in reversed(UNITS.items()):
        if whole % scale == 0:
            return f"{whole // scale}{unit}"
    return str(whole)
