"""Exact settings in place of a search: the trials that a study file lists, or all combinations of its lists.

For tables of a paper, ablations, repeats with other seeds: what is trained is what the file says, nothing is sampled.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from search.study_keys import StudySpec
from spaces.contract.narrowing import narrowed
from spaces.contract.space import Dimension, Value, active_names, word

FAMILY = "family"  # key of a listed trial
Values = dict[str, Value]


def is_exact(spec: StudySpec) -> bool:
    """Whether the file says every trial."""
    return bool(spec.trials) or spec.sampler == "grid"


def named_values(spec: StudySpec, family: str) -> dict[str, Any]:
    """What the file names of a family's dimensions; what listed trials name has all of their values."""
    found: dict[str, Any] = dict(spec.space.get(family, {}))
    for _, trial in listed(spec, family):
        for name, value in trial.items():
            known = found.get(name, [])
            known = list(known) if isinstance(known, list | tuple) else [known]
            found[name] = known if value in known else [*known, value]
    return found


def listed(spec: StudySpec, family: str) -> list[tuple[int, dict[str, Any]]]:
    """The file's trials of a family, with their places in the list."""
    return [
        (place, {name: value for name, value in trial.items() if name != FAMILY})
        for place, trial in enumerate(spec.trials)
        if _family_of(spec, place) == family
    ]


def settings_of(spec: StudySpec, family: str, space: Sequence[Dimension]) -> list[Values]:
    """The settings of a family to train, none twice: a value for each dimension of its `space`.

    A dimension that the file does not name has its default. Raises ValueError with one line that names the key.
    """
    where, common = f"space.{family}", spec.space.get(family, {})
    found = (
        [_listed(space, common, trial, f"trials[{place}]") for place, trial in listed(spec, family)]
        if spec.trials
        else _combinations(narrowed(space, common, where), common, where)
    )
    if not found:
        raise ValueError(f"families: {family} has no trial in `trials`; add one, or leave it out")
    different: dict[tuple[Any, ...], Values] = {}
    for values in found:
        read = tuple((name, values[name]) for name in active_names(space, values))
        different.setdefault(read, values)
    return list(different.values())


def exact_space(
    space: Sequence[Dimension], settings: Sequence[Values], where: str
) -> tuple[Dimension, ...]:
    """The space of these settings: each dimension takes the values that it has in them."""
    values = {d.name: list(dict.fromkeys(one[d.name] for one in settings)) for d in space}
    return narrowed(space, values, where)


def check_exact(spec: StudySpec, where: str) -> None:
    """Raise ValueError, in one line, where keys do not go together."""
    if not is_exact(spec):
        if spec.repeats > 1:
            raise ValueError(
                f"{where}: repeats: a search has no settings to repeat; write `sampler: grid`, or list `trials`"
            )
        return
    if spec.trials and "sampler" in spec.model_fields_set:
        raise ValueError(
            f"{where}: sampler: nothing is sampled where `trials` are listed; leave it out"
        )
    if spec.starting_points and "starting_points" in spec.model_fields_set:
        raise ValueError(
            f"{where}: starting_points: exact settings have none; leave it out, or list them too"
        )
    for place in range(len(spec.trials)):
        if _family_of(spec, place) not in spec.families:
            families = ", ".join(spec.families)
            raise ValueError(f"{where}: trials[{place}].{FAMILY}: write one of {families}")


def check_count(spec: StudySpec, settings: int, where: str) -> None:
    """Raise ValueError where the file's own number of trials is another than its settings and repeats give."""
    count = settings * spec.repeats
    if "trials" in spec.budget.model_fields_set and spec.budget.trials != count:
        times = f" x {spec.repeats} repeats" if spec.repeats > 1 else ""
        raise ValueError(
            f"{where}: budget.trials: {spec.budget.trials}, but {settings} settings{times} are {count} trials; "
            "leave it out"
        )


def _family_of(spec: StudySpec, place: int) -> object:
    return spec.trials[place].get(FAMILY, spec.families[0] if len(spec.families) == 1 else None)


def _listed(
    space: Sequence[Dimension], common: Mapping[str, Any], trial: Mapping[str, Any], where: str
) -> Values:
    """A value for each dimension: the trial's, else what all have in common, else the default."""
    own = narrowed(space, trial, where)
    for name, value in trial.items():
        if isinstance(value, list | tuple | dict):
            raise ValueError(f"{where}.{name}: takes one value; list a trial for each")
    shared = narrowed(space, {n: v for n, v in common.items() if n not in trial}, "space")
    values = {
        d.name: (d if d.name in trial else s).default for d, s in zip(own, shared, strict=True)
    }
    read = active_names(space, values)
    for name in trial:
        if name not in read:
            raise ValueError(f"{where}.{name}: has no effect beside its other values; leave it out")
    return values


def _combinations(
    space: Sequence[Dimension], common: Mapping[str, Any], where: str
) -> list[Values]:
    """All combinations of the values that the file lists; other dimensions have their defaults."""
    for d in space:
        if d.name in common and d.kind != "choice":
            raise ValueError(
                f"{where}.{d.name}: a grid has no ranges; list values, such as "
                f"[{word(d.low)}, {word(d.high)}]"
            )
    choices = [d.choices if d.name in common else (d.default,) for d in space]
    names = [d.name for d in space]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]
