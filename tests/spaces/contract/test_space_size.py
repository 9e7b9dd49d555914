from __future__ import annotations

from itertools import product

import pytest

from spaces.contract.narrowing import narrowed
from spaces.contract.registry import families
from spaces.contract.space import Dimension, active_names
from spaces.contract.space_size import space_size

GATE = Dimension(kind="choice", name="gate", default="none", choices=("none", "soft", "hard"))
HIDDEN = Dimension(
    kind="int", name="hidden", default=2, low=1, high=4, when={"gate": ("soft", "hard")}
)
DROP = Dimension(kind="float", name="drop", default=0.1, low=0, high=1, when={"hidden": (4,)})
FLIP = Dimension(kind="choice", name="flip", default=True, choices=(False, True), searched=False)


def test_conditions_count_only_what_matters() -> None:
    size = space_size([GATE, HIDDEN, FLIP])
    assert size.combinations == 1 + 2 * 4
    assert size.continuous == ()


def test_a_range_of_numbers_is_continuous_where_it_can_matter() -> None:
    assert space_size([GATE, HIDDEN, DROP]).continuous == ("drop",)
    assert space_size([GATE, HIDDEN, DROP]).combinations == 9
    without = narrowed([GATE, HIDDEN, DROP], {"hidden": {"high": 3}}, "space")
    assert space_size(without).continuous == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", families())
def test_the_count_is_that_of_a_list_of_all_combinations(name: str) -> None:
    space = families()[name].space
    searched = [d for d in space if d.searched and d.kind == "choice"][:5]
    few = [d for d in space if not d.searched or d in searched]
    seen = set()
    for combination in product(*(d.choices for d in searched)):
        values = {d.name: d.default for d in few}
        values |= dict(zip([d.name for d in searched], combination, strict=True))
        shown = active_names(few, values)
        seen.add(tuple((one, values[one]) for one in shown))
    assert space_size(few).combinations == len(seen)
