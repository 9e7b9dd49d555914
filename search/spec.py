"""The study file: YAML in, a checked and frozen StudySpec out.

Every mistake is one line that names the file, the key, what was given and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.engine_keys import check_engine
from search.exact import check_count, check_exact, exact_space, is_exact, named_values, settings_of
from search.objectives import COSTS, LATENCY, MACS
from search.recipe_checks import (
    check_images_read,
    check_milestones,
    check_teacher,
    check_trunks,
)
from search.spec_errors import mistake, shown, yaml_mistake
from search.study_keys import StudySpec
from spaces.contract.narrowing import for_trained_weights, narrowed
from spaces.contract.recipe import PRETRAINED
from spaces.contract.resolution import IMAGE_SIZE, image_size_dimension
from spaces.contract.space import Dimension, Value, word
from spaces.contract.trunk import FINETUNED, FROZEN, TRUNK
from storage.yaml_text import NotYamlError, file_text, parsed
from trainers.metrics import METRICS

Unread = Callable[[str], None]  # takes a message on a key that no candidate reads
BEFORE = {
    "warm_start": False,
    "early_stopping": False,
    "starting_points": False,
    "test": None,
    "recipe": "scratch",
}  # these were keys of study files


def stored_spec(values: Mapping[str, Any]) -> StudySpec:
    """The spec of a stored study; one from before a key existed goes on without what it turns on."""
    known = {**BEFORE, **values}
    if "budget" in known:
        warm = known["warm_start"] and not known.get("init_from")
        known["budget"] = budget_begun(known["budget"], warm)
    return StudySpec.model_validate(known, strict=False)


def budget_begun(budget: Mapping[str, Any], warm_start: bool) -> dict[str, Any]:
    """A stored budget; before `warm_epochs` was a key, trials from baselines took a third of the epochs."""
    if "warm_epochs" in budget or not warm_start:
        return dict(budget)
    return {**budget, "warm_epochs": max(1, round(budget["epochs"] / 3))}


def read_study(path: Path, unread: Unread | None = None) -> tuple[StudySpec, str]:
    """The spec and the file's own text. Raises ValueError with one line; for `unread` see `parse_study`."""
    try:
        text = file_text(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not a text file in UTF-8") from None
    except NotYamlError as error:
        raise ValueError(f"{path}: {yaml_mistake(error)}") from None
    return parse_study(text, str(path), unread), text


def parse_study(text: str, where: str, unread: Unread | None = None) -> StudySpec:
    """The spec that a study file's text says; `where` is the file's name in messages.

    A key of `space` that no candidate reads is refused, or given to `unread` as a message, where there is one: studies
    from before that was refused have such keys.
    """
    try:
        content = parsed(text)
    except NotYamlError as error:
        raise ValueError(f"{where}: {yaml_mistake(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{where}: must be a mapping with study, data and families")
    try:
        spec = StudySpec(**content)
    except ValidationError as error:
        raise ValueError(f"{where}: {mistake(error, StudySpec)}") from None
    _check_data(spec, where)
    _check_objectives(spec, where)
    _check_warm_epochs(spec, where)
    check_engine(spec.run, where)
    check_exact(spec, where)
    spaces = declared_spaces(spec, where)
    check_trunks(spec, where, spaces)
    for name, space in spaces.items():
        for found in _unread(where, name, space, named_values(spec, name)):
            if unread is None:
                raise ValueError(found)
            unread(found)
    return _counted(spec, where) if is_exact(spec) else spec


def narrowed_spaces(spec: StudySpec) -> dict[str, tuple[Dimension, ...]]:
    """Each family's dimensions as the study fixes or narrows them. Raises ValueError naming what is unknown."""
    from spaces.contract.registry import family

    return _narrowed(spec, "study file", lambda name: family(name).space)


def declared_spaces(spec: StudySpec, where: str = "study file") -> dict[str, tuple[Dimension, ...]]:
    """As `narrowed_spaces`, from what the families declare: without torch, which is slow to import."""
    from spaces.contract.declarations import declaration

    return _narrowed(spec, where, lambda name: declaration(name).space)


def _narrowed(
    spec: StudySpec, where: str, space_of: Callable[[str], Sequence[Dimension]]
) -> dict[str, tuple[Dimension, ...]]:
    for name in spec.families:
        if spec.families.count(name) > 1:
            raise ValueError(f"{where}: families: {name} stands there twice")
    for name in spec.space:
        if name not in spec.families:
            raise ValueError(
                f"{where}: space.{name}: is not among the study's families ({', '.join(spec.families)})"
            )
    for name in spec.init_from if isinstance(spec.init_from, dict) else ():
        if name not in spec.families:
            raise ValueError(f"{where}: init_from.{name}: is not among the study's families")
    found = {}
    for name in spec.families:
        try:
            space = _whole_space(spec, name, space_of)
            found[name] = (
                exact_space(space, settings_of(spec, name, space), f"space.{name}")
                if is_exact(spec)
                else narrowed(space, spec.space.get(name, {}), f"space.{name}")
            )
        except ValueError as error:
            own = str(error).startswith(("space.", "trials[", "families:"))
            raise ValueError(f"{where}: {'' if own else 'families: '}{error}") from None
    for name, space in found.items():
        check_teacher(spec, where, name, space)
        check_images_read(where, name, space)
        check_milestones(spec, where, name, space)
    return found


def exact_settings(spec: StudySpec) -> list[tuple[str, dict[str, Value]]]:
    """(family, a value for each of its dimensions) of each setting of a study that lists them, by family."""
    from spaces.contract.declarations import declaration

    return [
        (name, values)
        for name in spec.families
        for values in settings_of(
            spec, name, _whole_space(spec, name, lambda name: declaration(name).space)
        )
    ]


def _counted(spec: StudySpec, where: str) -> StudySpec:
    """The spec of exact settings with their number of trials."""
    settings = len(exact_settings(spec))
    check_count(spec, settings, where)
    budget = spec.budget.model_copy(update={"trials": settings * spec.repeats})
    return spec.model_copy(update={"budget": budget})


def _whole_space(
    spec: StudySpec, name: str, space_of: Callable[[str], Sequence[Dimension]]
) -> tuple[Dimension, ...]:
    """All dimensions of a family in this study, before the file fixes or narrows any."""
    trained = _as_trained(spec, name, space_of(name))
    return (*_sized(spec, name, trained), *_searched_sides(spec, name))


def _sized(spec: StudySpec, name: str, space: tuple[Dimension, ...]) -> tuple[Dimension, ...]:
    """The space with the sizes of the published network that the file names, for a family that can be one."""
    from spaces.contract.declarations import declaration

    by = declaration(name).sized_by
    named = named_values(spec, name).get(by) if by else None
    if named is None:
        return space
    if isinstance(named, list | tuple):
        if len(named) > 1:
            raise ValueError(
                f"space.{name}.{by}: sizes are those of one network, so only one can be named; write a study for each"
            )
        named = named[0]
    from spaces.contract.registry import family

    own = family(name)
    (dimension,) = (d for d in space if d.name == by)
    assert own.sized is not None
    return own.sized(space, str(dimension.canonical(named)))


def _searched_sides(spec: StudySpec, family_name: str) -> tuple[Dimension, ...]:
    """The dimension of a study that searches the size of the images."""
    if len(spec.image_sizes) > 1:
        return (image_size_dimension(spec.image_sizes),)
    if IMAGE_SIZE in named_values(spec, family_name):
        raise ValueError(
            f"space.{family_name}.image_size: only narrows a list for one family; write `image_size: [64, 96, 128]` "
            "at the top of the file"
        )
    return ()


def _unread(
    where: str, name: str, space: Sequence[Dimension], named: Mapping[str, object]
) -> Iterator[str]:
    """A message for each key of the file that no candidate reads."""
    taken = {one.name: one.taken for one in space if one.kind == "choice"}
    for dimension in (one for one in space if one.name in named):
        for other, values in dimension.when.items():
            if other not in taken or set(taken[other]) & set(values):
                continue
            needed, own = (" or ".join(map(word, each)) for each in (values, taken[other]))
            read = [d.name for d in space if d.name.endswith(f"_{dimension.name}")]
            yield (
                f"{where}: space.{name}.{dimension.name}: has no effect: it needs {other} to be {needed}, and "
                f"here it is {own}; {f'write {read[0]}' if read else 'leave it out'}"
            )


def _as_trained(spec: StudySpec, name: str, space: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """The family's space with the recipe for the weights that its trainings start with."""
    values = named_values(spec, name)
    named = values.get(PRETRAINED, False)
    loads = [one is True for one in (named if isinstance(named, list | tuple) else [named])]
    given = spec.initial(name) is not None or spec.recipe == "fine_tuning"
    trunk = values.get(TRUNK, FINETUNED)
    own_trunks = trunk if isinstance(trunk, list | tuple) else [trunk]
    # behind a frozen trunk only new heads are trained
    if spec.recipe == "scratch" or FINETUNED not in own_trunks or not (given or any(loads)):
        return tuple(space)
    return for_trained_weights(space, every=(given or all(loads)) and FROZEN not in own_trunks)


def _check_data(spec: StudySpec, where: str) -> None:
    from trainers.data.sources import SOURCES, is_source

    if not is_source(spec.data):
        known = ", ".join(SOURCES)
        raise ValueError(
            f"{where}: data: {shown(spec.data)} is not a data set; give one of {known}"
        )


def _check_warm_epochs(spec: StudySpec, where: str) -> None:
    short, full = spec.budget.warm_epochs, spec.budget.epochs
    if short is None:
        return
    if short > full:
        raise ValueError(f"{where}: budget.warm_epochs: {short} is more than budget.epochs, {full}")
    if not spec.warm_start:
        raise ValueError(
            f"{where}: budget.warm_epochs: no trial starts from a baseline, because of warm_start: false; leave one of "
            "the two out"
        )


def _check_objectives(spec: StudySpec, where: str) -> None:
    first, *costs = spec.objectives or ("",)
    known = [COSTS[name] for name in costs if name in COSTS]
    twice = len({cost.measure for cost in known}) < len(known)  # the mean and the p95 of MACs
    if spec.region.max_macs and not any(cost.measure == MACS.measure for cost in known):
        raise ValueError(f"{where}: region.max_macs: needs macs among the objectives")
    if spec.region.max_latency_ms and not any(cost.measure == LATENCY.measure for cost in known):
        raise ValueError(f"{where}: region.max_latency_ms: needs latency among the objectives")
    if first not in METRICS or any(name not in COSTS for name in costs) or twice:
        given = ", ".join(spec.objectives)
        raise ValueError(
            f"{where}: objectives: [{given}] is not one of {', '.join(METRICS)}, alone or followed by costs: "
            "[accuracy, macs], [balanced_accuracy, macs_p95], [accuracy, macs, parameters]"
        )
    timed = [f"objectives: {cost.name}" for cost in known if cost.needed == "latency"]
    timed += ["limits.latency_ms:"] if spec.limits.latency_ms else []
    if timed and spec.latency is None:
        raise ValueError(
            f"{where}: {timed[0]} needs a table of times: write `latency: latency.json`, and let "
            f"`dynafront profile {where}` make that file"
        )
