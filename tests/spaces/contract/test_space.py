"""Dimensions: declared once, sampled, replayed, narrowed by a study file."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from spaces.contract.narrowing import for_trained_weights, narrowed
from spaces.contract.registry import families
from spaces.contract.space import (
    Dimension,
    active_names,
    choice,
    dimensions,
    flag,
    nearest,
    real,
    suggested,
    whole,
    whole_from,
)

SPACES = {name: family.space for name, family in families().items()}


@dataclass(frozen=True, kw_only=True)
class Pets:
    """A space small enough to check by hand."""

    pet: str = choice("cat", "dog", default="cat", doc="what to keep")
    tail: bool = flag(default=True, when={"pet": ("dog",)}, doc="wags")
    wag: float = real(0.5, 8.0, default=2.0, log=True, when={"tail": (True,)}, doc="in Hz")
    legs: int = whole(1, 4, default=4, searched=False, doc="to stand on")


PETS = dimensions(Pets)
BY_NAME = {d.name: d for d in PETS}


class Asked(FixedTrial):
    """A FixedTrial that remembers what it was asked."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(params)
        self.asked: list[str] = []

    def _suggest(self, name: str, distribution: Any) -> Any:
        self.asked.append(name)
        return super()._suggest(name, distribution)


def every_space(check: Any) -> Any:
    return pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())(check)


@every_space
def test_every_condition_names_an_earlier_dimension_and_values_that_it_can_have(
    space: tuple[Dimension, ...],
) -> None:
    earlier: dict[str, Dimension] = {}
    for dimension in space:
        for name, values in dimension.when.items():
            assert name in earlier, (
                f"{dimension.name} depends on {name}, which is not declared before it"
            )
            assert values, dimension.name
            assert all(earlier[name].contains(value) for value in values), (
                dimension.name,
                name,
                values,
            )
        assert dimension.name not in earlier
        earlier[dimension.name] = dimension


@every_space
def test_every_dimension_has_a_doc_and_a_default_that_it_allows(
    space: tuple[Dimension, ...],
) -> None:
    for dimension in space:
        assert dimension.doc, dimension.name
        assert dimension.contains(dimension.default), dimension.name
        if dimension.kind != "choice":
            assert dimension.low < dimension.high, dimension.name
            assert dimension.low > 0 or not dimension.log, dimension.name


@every_space
def test_every_dimension_matters_under_some_values(space: tuple[Dimension, ...]) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    everything = tuple(_searched(d, space) for d in space)
    seen: set[str] = set()
    for _ in range(300):
        seen |= set(active_names(everything, suggested(study.ask(), everything, "x")))
    assert seen == {d.name for d in space}


@every_space
def test_a_trial_is_asked_only_for_dimensions_that_matter_and_replays_to_the_same_values(
    space: tuple[Dimension, ...],
) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for everything in (space, tuple(_searched(d) for d in space)):
        searched = {d.name for d in everything if not d.fixed}
        for _ in range(40):
            trial = study.ask()
            values = suggested(trial, everything, "family")
            asked = {name.removeprefix("family.") for name in trial.params}
            assert asked == set(active_names(everything, values)) & searched
            replay = Asked(trial.params)
            assert suggested(replay, everything, "family") == values
            assert {name.removeprefix("family.") for name in replay.asked} == asked


@given(pet=st.sampled_from(["cat", "dog"]), tail=st.booleans(), wag=st.floats(0.5, 8.0))
def test_a_condition_on_a_dimension_that_does_not_matter_never_holds(
    pet: str, tail: bool, wag: float
) -> None:
    trial = Asked({"p.pet": pet, "p.tail": tail, "p.wag": wag})
    values = suggested(trial, PETS, "p")
    expected = (
        ["p.pet"] if pet == "cat" else ["p.pet", "p.tail", "p.wag"] if tail else ["p.pet", "p.tail"]
    )
    assert trial.asked == expected
    assert values["wag"] == (wag if "p.wag" in expected else 2.0)
    assert values["tail"] is (tail if pet == "dog" else True)
    assert values["legs"] == 4


def test_dimensions_carry_the_names_and_order_of_their_fields() -> None:
    assert [d.name for d in PETS] == ["pet", "tail", "wag", "legs"]
    assert Pets() == Pets(pet="cat", tail=True, wag=2.0, legs=4)


def test_a_choice_without_a_default_is_its_first() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Doors:
        door: str = choice("left", "right", doc="to take")

    assert Doors().door == "left"
    assert dimensions(Doors)[0].default == "left"


def test_a_dimension_says_its_range_and_condition_in_words() -> None:
    assert BY_NAME["pet"].allowed() == "cat, dog"
    assert BY_NAME["tail"].allowed() == "false, true"
    assert BY_NAME["wag"].allowed() == "0.5 to 8 (log)"
    assert BY_NAME["tail"].condition() == "pet = dog"
    assert BY_NAME["wag"].condition() == "tail = true"
    assert BY_NAME["pet"].condition() == ""


@pytest.mark.parametrize(
    ("name", "value", "inside"),
    [
        ("pet", "cat", True),
        ("pet", "cow", False),
        ("tail", True, True),
        ("tail", 1, False),
        ("wag", 0.5, True),
        ("wag", 8, True),
        ("wag", 8.01, False),
        ("wag", math.nan, False),
        ("wag", True, False),
        ("wag", "2", False),
        ("legs", 3, True),
        ("legs", 3.0, True),
        ("legs", 3.5, False),
        ("legs", math.inf, False),
        ("legs", math.nan, False),
    ],
)
def test_a_dimension_contains_its_values_and_nothing_else(
    name: str, value: object, inside: bool
) -> None:
    assert BY_NAME[name].contains(value) is inside


def test_a_value_fixes_a_dimension_which_is_then_never_asked() -> None:
    space = narrowed(PETS, {"pet": "dog", "wag": 4}, "pets.yml: space")
    trial = Asked({"p.tail": True})
    assert suggested(trial, space, "p") == {"pet": "dog", "tail": True, "wag": 4.0, "legs": 4}
    assert trial.asked == ["p.tail"]
    assert all(d.fixed for d in space if d.name in ("pet", "wag"))


def test_a_value_for_a_dimension_that_is_not_searched_replaces_its_default() -> None:
    space = narrowed(PETS, {"legs": 3}, "here")
    assert suggested(Asked({"p.pet": "cat"}), space, "p")["legs"] == 3


def test_a_list_narrows_a_dimension_and_makes_it_searched() -> None:
    space = narrowed(PETS, {"legs": [2, 3.0]}, "here")
    legs = next(d for d in space if d.name == "legs")
    assert (legs.choices, legs.searched) == ((2, 3), True)
    assert all(type(value) is int for value in legs.choices)


def test_low_and_high_narrow_a_range_and_pull_its_default_in() -> None:
    wag = next(d for d in narrowed(PETS, {"wag": {"low": 3}}, "here") if d.name == "wag")
    assert (wag.low, wag.high, wag.default, wag.log, wag.searched) == (3.0, 8.0, 3.0, True, True)
    legs = next(
        d for d in narrowed(PETS, {"legs": {"low": 2, "high": 3}}, "here") if d.name == "legs"
    )
    assert (legs.low, legs.high, legs.default, legs.searched) == (2, 3, 3, True)


def test_dimensions_that_are_not_named_stay_as_they_are() -> None:
    assert narrowed(PETS, {}, "here") == PETS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wags": 1}, "s.yml: space.wags: no such dimension; did you mean wag?"),
        ({"colour": 1}, "s.yml: space.colour: no such dimension; known: legs, pet, tail, wag"),
        ({"pet": "cow"}, "s.yml: space.pet: cow is not one of cat, dog"),
        ({"pet": ["cat", "cow"]}, "s.yml: space.pet: cow is not one of cat, dog"),
        ({"pet": []}, "s.yml: space.pet: an empty list; allowed: cat, dog"),
        ({"tail": 1}, "s.yml: space.tail: 1 is not one of false, true"),
        ({"wag": 9}, "s.yml: space.wag: 9 is not between 0.5 and 8"),
        ({"wag": True}, "s.yml: space.wag: true is not between 0.5 and 8"),
        (
            {"wag": "4e0"},
            "s.yml: space.wag: 4e0 is text, not a number between 0.5 and 8; write 4.0",
        ),
        ({"wag": "fast"}, "s.yml: space.wag: fast is text, not a number between 0.5 and 8"),
        ({"wag": {"low": 5, "high": 3}}, "s.yml: space.wag: low 5 is above high 3"),
        ({"wag": {"low": 0.1}}, "s.yml: space.wag: 0.1 is not between 0.5 and 8"),
        ({"wag": {"min": 1}}, "s.yml: space.wag: takes {low, high}, not min"),
        ({"wag": {}}, "s.yml: space.wag: takes {low, high}, not nothing"),
        (
            {"pet": {"low": 1}},
            "s.yml: space.pet: takes a value or a list out of cat, dog, not low and high",
        ),
        ({"legs": 2.5}, "s.yml: space.legs: 2.5 is not a whole number between 1 and 4"),
        ({"pet": ["cat", "cat"]}, "s.yml: space.pet: cat stands there twice"),
        ({"wag": None}, "s.yml: space.wag: no value; allowed: 0.5 to 8 (log)"),
    ],
)
def test_a_wrong_narrowing_is_told_in_one_line_with_what_is_allowed(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=r"^s\.yml") as caught:
        narrowed(PETS, changes, "s.yml: space")
    assert str(caught.value) == message


def test_the_nearest_known_name_is_offered_or_else_all_of_them() -> None:
    assert nearest("garnularity", ["granularity", "gate"]) == "; did you mean granularity?"
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"


def test_a_range_is_searched_while_a_study_file_may_name_more() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Rates:
        lr: float = real(0.1, 1.0, default=0.5, within=(0.0, 9.0), doc="of learning")

    (lr,) = dimensions(Rates)
    assert (lr.allowed(), lr.contains(5), lr.contains(10)) == ("0.1 to 1", True, False)
    (named,) = narrowed([lr], {"lr": {"high": 7}}, "here")
    assert (named.low, named.high) == (0.1, 7.0)


def test_ranges_of_trained_weights_take_the_place_of_others_or_span_both() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Rates:
        lr: float = real(
            0.1, 1.0, default=0.5, tuned={"low": 0.01, "high": 0.2, "default": 0.02}, doc="rate"
        )
        decay: float = real(0.0, 1.0, default=0.0, tuned={"searched": False}, doc="decay")

    space = dimensions(Rates)
    lr, decay = for_trained_weights(space, every=True)
    assert (lr.low, lr.high, lr.default, decay.searched) == (0.01, 0.2, 0.02, False)
    lr, decay = for_trained_weights(space, every=False)
    assert (lr.low, lr.high, lr.default, decay.searched) == (0.01, 1.0, 0.5, True)


def test_any_whole_number_stands_beside_the_choices_that_are_drawn() -> None:
    accepts = whole_from(2, 100)
    assert accepts("48") == 48
    for text in ("1", "101", "2.5", "many", "inf"):
        with pytest.raises(ValueError, match=f"{text} is not a whole number between 2 and 100"):
            accepts(text)


def _searched(dimension: Dimension, space: tuple[Dimension, ...] = ()) -> Dimension:
    """With the values that conditions in `space` name beside its choices, for an open choice takes more than those."""
    named = [v for d in space for v in d.when.get(dimension.name, ()) if v not in dimension.choices]
    return dataclasses.replace(
        dimension, searched=True, choices=(*dimension.choices, *dict.fromkeys(named))
    )
