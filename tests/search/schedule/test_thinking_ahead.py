"""The next suggestion is computed while trainings report, and their speed decides nothing."""

from __future__ import annotations

from threading import Event

import pytest

from search.schedule.asking import Asking
from search.schedule.growth_sampler import Growth
from search.schedule.history import Params
from search.schedule.ranking import Look, Ranks
from spaces.contract.family import Candidate
from tests.search.schedule.studies import Study, measured

SAMPLERS = ("growth", "tpe")
KNOWN = 12


def known(sampler: str) -> Study:
    """A study with trainings to learn from, and one more whose result nobody knows yet."""
    one = Study(sampler)
    for _ in range(KNOWN):
        report(one, *one.ask())
    one.ask()
    return one


def report(one: Study, number: int, candidate: object) -> None:
    assert isinstance(candidate, Candidate)
    curve = measured(candidate)
    one.look(number, 4, curve, tuple(curve[0]), ended=True)


def running(one: Study) -> None:
    """What is under way ends, better than all others."""
    best = one.history.trials[0].curve
    assert best is not None
    one.look(KNOWN, 4, best * 0.1, tuple(best[0] * 0.1), ended=True)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_suggestion_knows_what_was_reported_when_it_was_begun(sampler: str) -> None:
    without, begun, late = (known(sampler) for _ in range(3))
    begun.asking.think_ahead()
    running(begun)
    running(late)
    number, candidate = begun.ask()
    assert (number, candidate) == without.ask(), "begun before the last report"
    assert candidate != late.ask()[1], "begun after it"
    for one in (without, begun, late):
        one.sampler.close()


class Slow:
    """Ranks once it may."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks, self.may, self.looks = ranks, Event(), list[Look]()

    def of(self, look: Look) -> list[Params]:
        self.looks.append(look)
        assert self.may.wait(20)
        return self._ranks.of(look)

    def close(self) -> None:
        self._ranks.close()


def slow(asking: Asking) -> Slow:
    growth = asking.sampler
    assert isinstance(growth, Growth)
    found = growth._ranks = Slow(growth._ranks)
    return found


def test_reports_do_not_wait_for_what_is_being_ranked() -> None:
    one, other = known("growth"), known("growth")
    ranks = slow(one.asking)
    assert isinstance(one.sampler, Growth)
    one.sampler._thinking._thread.submit(ranks.may.wait, 20)  # the thread comes late too
    one.asking.think_ahead()
    running(one)
    one.asking.think_ahead()
    ranks.may.set()
    assert one.ask() == other.ask()
    assert len(ranks.looks) == 1
    one.sampler.close()


def test_more_are_ranked_while_some_that_were_found_together_are_left() -> None:
    one = Study(together=4)
    for _ in range(KNOWN):
        report(one, *one.ask())
    ranks = slow(one.asking)
    ranks.may.set()
    looks = []
    for _ in range(8):
        one.asking.think_ahead()
        one.sampler.settle()
        looks.append(len(ranks.looks))
        one.ask()
    assert looks == [1, 1, 2, 2, 2, 2, 3, 3]
    one.sampler.close()
