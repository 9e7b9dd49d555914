"""What every sampler promises, over the table of samplers: a new one is tested by standing in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from search.schedule.sampler import STARTUP, InfeasibleError, Spaces
from search.schedule.samplers import SAMPLERS
from spaces.contract.family import Candidate
from tests.search.schedule.studies import BOTH_AT_SIDES, SPACES, Study, candidates, measured, run

TRIALS = STARTUP + 4  # so that model-based samplers model
SPACES_OF = {"one family": SPACES, "two families, sizes of images": BOTH_AT_SIDES}

Happened = Sequence[str]  # what became of each trial


SLOW = {"gp"}  # its every suggestion fits a model for seconds


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SAMPLERS]
)
def sampler(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=sorted(SPACES_OF))
def spaces(request: pytest.FixtureRequest) -> Spaces:
    return SPACES_OF[request.param]


def study(sampler: str, spaces: Spaces = SPACES, costs: int = 1, **values: Any) -> Study:
    """Two families differ in what they cost; size does not matter here."""
    return Study(sampler, spaces=spaces, costs=costs, size=lambda _: (0.5,) * costs, **values)


def is_of(params: Mapping[str, Any], spaces: Spaces) -> bool:
    """Whether these are values of the dimensions of one family, by their names."""
    own = dict(params)
    name = own.pop("family", next(iter(spaces)))
    dimensions = {f"{name}.{d.name}": d for d in spaces[name] if d.searched}
    return own.keys() <= dimensions.keys() and all(
        dimensions[key].contains(value) for key, value in own.items()
    )


def end(one: Study, number: int, candidate: Candidate, how: str, costs: int = 1) -> None:
    """Let a trial end complete or stopped after a rung, fail after one, or fail before it was measured."""
    curve = measured(candidate, costs)
    if how != "failed":
        one.look(number, 2, curve, curve[0])
    if how == "complete":
        one.look(number, 4, curve * 0.9, curve[0] * 0.9, ended=True)
    elif how == "stopped":
        one.stop(number)
    else:
        one.fail(number)


def go_through(one: Study, happened: Happened) -> list[Candidate]:
    asked = []
    for how in happened:
        number, candidate = one.ask()
        assert not isinstance(candidate, InfeasibleError)
        end(one, number, candidate, how)
        asked.append(candidate)
    return asked


MIXED = ["complete", "stopped", "failed", "complete", "failed late", "stopped", "complete"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("costs", [0, 1, 2])
def test_it_suggests_only_values_of_the_space_for_one_to_three_objectives(
    sampler: str, spaces: Spaces, costs: int
) -> None:
    one = study(sampler, spaces, costs)
    found = candidates(run(one, TRIALS, costs))
    assert all(is_of(training.params, spaces) for training in one.history.trials.values())
    assert len({candidate.key for candidate in found}) > TRIALS // 2
    assert {candidate.family.name for candidate in found} <= set(spaces)


def test_what_is_given_is_kept_and_the_rest_is_drawn(sampler: str, spaces: Spaces) -> None:
    other, one = study("random", spaces, seed=9), study(sampler, spaces)
    other.ask()
    given = other.history.trials[0].params
    assert one.sampler.suggest(0, one.history, lambda _: 4, given) == given
    some = {name: value for name, value in given.items() if not name.endswith((".lr", ".loss"))}
    params = one.sampler.suggest(1, one.history, lambda _: 4, some)
    kept = some.keys() & params.keys()  # others may not matter for the loss that is drawn
    assert {name: params[name] for name in kept} == {name: some[name] for name in kept}
    assert some.keys() < params.keys() | some.keys()
    assert is_of(params, spaces)


def test_the_same_history_gives_the_same_suggestions(sampler: str, spaces: Spaces) -> None:
    first, second = (go_through(study(sampler, spaces), MIXED[:8]) for _ in range(2))
    assert first == second


def test_another_seed_gives_other_suggestions(sampler: str) -> None:
    first, second = study(sampler, seed=3), study(sampler, seed=4)
    assert candidates(run(first, 3)) != candidates(run(second, 3))


@pytest.mark.slow
@pytest.mark.parametrize("happened", [["complete"] * TRIALS, MIXED], ids=["complete", "mixed"])
def test_one_that_observed_everything_again_suggests_what_the_first_one_would(
    sampler: str, spaces: Spaces, happened: Happened
) -> None:
    first = study(sampler, spaces, starts=True)
    go_through(first, happened)
    second = study(sampler, spaces, starts=True).again(first)
    assert first.ask()[1] == second.ask()[1]


@pytest.mark.parametrize("how", ["stopped", "failed", "failed late"])
def test_trials_that_all_ended_early_do_not_keep_it_from_suggesting(sampler: str, how: str) -> None:
    one = study(sampler)
    go_through(one, [how] * TRIALS)
    assert isinstance(one.ask()[1], Candidate)


def test_it_suggests_while_earlier_trials_train(sampler: str) -> None:
    one = study(sampler)
    asked = [one.ask()[1] for _ in range(TRIALS)]
    assert all(isinstance(candidate, Candidate) for candidate in asked)
