"""The parameters that a chart of a study has an axis for."""

from __future__ import annotations

from collections.abc import Sequence

from search.report.text import describing_params
from search.spec import StudySpec, declared_spaces
from spaces.contract.resolution import IMAGE_SIZE
from spaces.contract.space import Dimension

MOST_PARAMS = 10  # axes of one chart


def varied_params(spec: StudySpec) -> list[str]:
    """Dimensions in which the networks of this study differ, those that describe a network first.

    MLflow shows no chart of parameters that no run has.
    """
    sides = len(spec.image_sizes) > 1
    spaces = declared_spaces(spec).values()
    searched = [
        one.name for space in spaces for one in space if not one.fixed and _read(one, space)
    ]
    varied = {*searched, *([IMAGE_SIZE] if sides else [])}
    telling = describing_params(spec.families, sides=sides)
    found = dict.fromkeys([*(name for name in telling if name in varied), *searched])
    return list(found)[:MOST_PARAMS] or telling


def _read(dimension: Dimension, space: Sequence[Dimension]) -> bool:
    """Whether any candidate of the space reads the dimension: what it depends on can have a value that it needs."""
    known = {one.name: one for one in space if one.kind == "choice"}
    needed = [(known[name], values) for name, values in dimension.when.items() if name in known]
    return all({*one.taken} & {*values} and _read(one, space) for one, values in needed)
