"""How often a training may be ended from outside before it finishes another epoch.

Deaths of its own process speak against it. What ends with its driver or machine mostly does not: machines are taken
away, searches are killed. That only ends it after many times, for the memory of a whole container may be at stake.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from search.run.job import Failure
from storage.attempts import Ends
from storage.fence import TAKEN_OVER

DEATHS = 3
LOSSES = 10
LOSSES_TOGETHER = 2  # with a driver in whose process it trains; then it has one of its own


class HopelessError(RuntimeError):
    """Going on makes no sense: every trial failed, or another process drives the study."""


class TimeIsOverError(RuntimeError):
    """The study's hours ended while it waited for something to train on."""


@dataclass
class FailuresInARow:
    """How many trials failed since the last one that ended well; `most` of them end the search."""

    most: int
    count: int = 0

    def ended_well(self) -> None:
        self.count = 0

    def failed(self, failure: Failure) -> None:
        """One more. Raises HopelessError where they are `most`."""
        self.count += 1
        if self.count >= self.most:
            raise HopelessError(
                f"{self.most} trial{'s' * (self.most > 1)} in a row failed, the last with: {failure.error}; "
                "put that right, then search again to go on; --retry-failed trains the failed ones again"
            )


def check_goes_on(*, ours: bool, in_time: bool = True) -> None:
    """Raise HopelessError where a search is not ours any more, TimeIsOverError where its hours are over."""
    if not ours:
        raise HopelessError(TAKEN_OVER)
    if not in_time:
        raise TimeIsOverError


def given_up(ends: Ends) -> Failure | None:
    """Why a training is not started again, if it is not."""
    if ends.died >= DEATHS:
        reason = f"its process ended {ends.died} times while it trained, without a new epoch; out of memory, or a crash"
    elif ends.lost >= LOSSES:
        reason = (
            f"the search or its machine ended {ends.lost} times while it trained, without a new epoch; "
            "a shorter epoch, or a training with less memory, may come further"
        )
    else:
        return None
    return Failure(reason, None, "")


def counted(failure: Failure, ends: Ends) -> Failure:
    """The last failure of a training that is given up, with how often it was; of memory its own tries tell more."""
    if failure.memory:
        return failure
    times = ends.lost if failure.lost else ends.died
    return replace(failure, error=f"{failure.error}, {times} times without a new epoch")


def without_baseline(failure: Failure, how: str) -> Failure:
    """What is said of a trial that has no baseline, for that failed so: what it was to do with it, and why not."""
    return Failure(f"the baseline that it {how}: {failure.error}", None, failure.trace)


def kept_apart(ends: Ends) -> bool:
    """Whether the training needs a process of its own, so that it cannot take the driver down once more."""
    return ends.lost >= LOSSES_TOGETHER
