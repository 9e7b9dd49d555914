"""The study file: YAML in, a checked and frozen StudySpec out.

Every mistake is one line that names the file, the key, what was given and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from search.objectives import COSTS, MACS, Cost, macs_number
from search.spec_errors import mistake, shown, yaml_mistake
from spaces.contract.space import Dimension, narrowed
from storage.yaml_text import NotYamlError, clipped, file_text, parsed
from trainers.metrics import METRICS, Metric

Macs = Annotated[float, BeforeValidator(lambda value: _macs(value))]
Weights = Annotated[str | dict[str, str], BeforeValidator(lambda value: _weights(value))]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# rows of search.schedule.samplers.SAMPLERS
SamplerName = Literal["growth", "tpe", "nsgaii", "gp", "random"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Plateau(_Strict):
    """When to stop early: the hypervolume has not grown by this fraction over so many finished trials."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    growth: Annotated[float, Field(gt=0, lt=1)] = 0.005


class Budget(_Strict):
    """How much a study may spend: trials in total, epochs a trial, hours of wall-clock over all its runs."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 24
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 12
    # of trials that start from a baseline; None: as many as any other
    warm_epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    hours: Positive | None = None
    plateau: Plateau | None = None

    @property
    def short(self) -> int:
        """Epochs of a trial that starts from a baseline."""
        return self.epochs if self.warm_epochs is None else self.warm_epochs


class Region(_Strict):
    """The part of the front that counts: a highest cost, a least accuracy, or a distance from the best accuracy.

    Without one, what is so far below the best accuracy that nobody ships it does not count.
    """

    max_macs: Macs | None = None
    min_accuracy: Annotated[float, Field(gt=0, lt=1)] | None = None
    within: Annotated[float, Field(gt=0, le=1)] | None = None


class Limits(_Strict):
    """What no candidate may exceed, checked before it is built: of the network with everything open."""

    macs: Macs | None = None
    parameters: Macs | None = None
    megabytes: Positive | None = None  # of float32 weights


class Run(_Strict):
    """Where trials run: processes at once, threads each, device, number format."""

    # 0: in this process, which a trial that crashes then takes down
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False


class StudySpec(_Strict):
    """A study as its file says it, defaults filled in."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    data: Annotated[str, Field(min_length=1)]
    families: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    space: dict[str, dict[str, Any]] = Field(default_factory=dict)
    budget: Budget = Budget()
    objectives: Annotated[tuple[str, ...], Field(strict=False)] = ("accuracy", "macs")
    sampler: SamplerName = "growth"
    # each size's baseline is trained once; candidates start from it while that pays
    warm_start: bool = True
    early_stopping: bool = True
    starting_points: bool = True  # the families' recommended settings first
    region: Region = Region(within=0.1)
    limits: Limits = Limits()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data_root: str | None = None
    image_size: Annotated[int, Field(ge=4, le=4096)] | None = None
    # weights to start from: one source, or one a family
    init_from: Weights | None = None
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    # where the data has no test images; None in studies from before there was the key
    test: Annotated[float, Field(gt=0, lt=1)] | None = 0.2
    resize: Literal["crop", "pad", "squash"] = "crop"
    skip_broken: bool = False
    class_weights: Literal["none", "balanced"] = "none"  # of the training's loss
    train_limit: Annotated[int, Field(ge=2)] | None = None
    validation_limit: Annotated[int, Field(ge=2)] | None = None
    run: Run = Run()

    def initial(self, family: str) -> str | None:
        """Where the weights come from that this family's trainings start with; None for random ones."""
        return self.init_from.get(family) if isinstance(self.init_from, dict) else self.init_from

    @property
    def metric(self) -> Metric:
        """What is maximised."""
        return METRICS[self.objectives[0]]

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What is minimised."""
        return tuple(COSTS[name] for name in self.objectives[1:])

    @property
    def cost(self) -> Cost:
        """What pictures show accuracy against."""
        return self.costs[0] if self.costs else MACS


BEFORE = {
    "warm_start": False,
    "early_stopping": False,
    "starting_points": False,
    "test": None,
}  # these were keys of study files


def stored_spec(values: Mapping[str, Any]) -> StudySpec:
    """The spec of a stored study; one from before a key existed goes on without what it turns on."""
    known = {**BEFORE, **values}
    if "budget" in known:
        known["budget"] = budget_begun(known["budget"], known["warm_start"])
    return StudySpec.model_validate(known, strict=False)


def budget_begun(budget: Mapping[str, Any], warm_start: bool) -> dict[str, Any]:
    """A stored budget; before `warm_epochs` was a key, trials from baselines took a third of the epochs."""
    if "warm_epochs" in budget or not warm_start:
        return dict(budget)
    return {**budget, "warm_epochs": max(1, round(budget["epochs"] / 3))}


def read_study(path: Path) -> tuple[StudySpec, str]:
    """The spec and the file's own text. Raises ValueError with one line."""
    try:
        text = file_text(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not a text file in UTF-8") from None
    except NotYamlError as error:
        raise ValueError(f"{path}: {yaml_mistake(error)}") from None
    return parse_study(text, str(path)), text


def parse_study(text: str, where: str) -> StudySpec:
    """The spec that a study file's text says; `where` is the file's name in messages."""
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
    _check_spaces(spec, where)
    return spec


def narrowed_spaces(spec: StudySpec) -> dict[str, tuple[Dimension, ...]]:
    """Each family's dimensions as the study fixes or narrows them. Raises ValueError naming what is unknown."""
    from spaces.contract.registry import family

    return _narrowed(spec, "study file", lambda name: family(name).space)


def _check_spaces(spec: StudySpec, where: str) -> None:
    """Raise what `narrowed_spaces` would, from what the families declare: without torch, which is slow to import."""
    from spaces.contract.declarations import declaration

    _narrowed(spec, where, lambda name: declaration(name).space)


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
            found[name] = narrowed(space_of(name), spec.space.get(name, {}), f"space.{name}")
        except ValueError as error:
            key = "" if str(error).startswith("space.") else "families: "
            raise ValueError(f"{where}: {key}{error}") from None
    return found


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
    if not spec.warm_start or all(spec.initial(name) is not None for name in spec.families):
        raise ValueError(
            f"{where}: budget.warm_epochs: no trial starts from a baseline, because of "
            f"{'init_from' if spec.warm_start else 'warm_start: false'}; leave one of the two out"
        )


def _check_objectives(spec: StudySpec, where: str) -> None:
    first, *costs = spec.objectives or ("",)
    known = [COSTS[name] for name in costs if name in COSTS]
    twice = len({cost.measure for cost in known}) < len(known)  # the mean and the p95 of MACs
    if spec.region.max_macs and not any(cost.measure == MACS.measure for cost in known):
        raise ValueError(f"{where}: region.max_macs: needs macs among the objectives")
    if first not in METRICS or any(name not in COSTS for name in costs) or twice:
        given = ", ".join(spec.objectives)
        raise ValueError(
            f"{where}: objectives: [{given}] is not one of {', '.join(METRICS)}, alone or followed by costs: "
            "[accuracy, macs], [balanced_accuracy, macs_p95], [accuracy, macs, parameters]"
        )


def _macs(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{clipped(repr(value))} is not a number; write it like 500k, 20M or 1.5G")
    return float(macs_number(value))


def _weights(value: object) -> object:
    sources = value.values() if isinstance(value, dict) else [value]
    if not all(isinstance(source, str) and source for source in sources):
        raise ValueError(
            f"{shown(value)} is neither a file, nor torchvision:NAME, nor one of these by family"
        )
    return value
