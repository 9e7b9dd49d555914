"""Why some trainings are better than others: importance of dimensions, and the trainings by their settings.

Importance is PED-ANOVA: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces", IJCAI, 2023, as Optuna has it, which takes conditional dimensions. It is computed on our own
tables: Optuna's know one point of a training, and ours all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from search.front.curves import own_front, volume
from search.front.eligible import chosen_of, curve_of
from search.front.pareto import reference_point_of
from search.front.stored import StudyFront, study_cost, study_costs
from search.objectives import Reference
from search.spec import declared_spaces, stored_spec
from spaces.contract.space import Dimension
from storage.records import Kind, PointRecord, State, StudyRecord, TrialRecord
from storage.store import Store

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FEWEST = 24  # trainings below which an importance would be luck
LEAST_USED = 12  # trainings that have a use for a dimension; of fewer its importance would be luck
BEST = 8  # trainings, at least, that are told from the rest
ENDED = (State.COMPLETE, State.STOPPED)
WHOLE, FAMILY = "hypervolume", "family"


def why(store: Store, record: StudyRecord, front: StudyFront) -> dict[str, Any]:
    """All trainings with their settings and what they reached, but for the importances, which take seconds.

    A setting that a training has no use for is None. `words` says what is missing where there are too few trainings.
    """
    seen = _Seen.of(store, record, front)
    few = f"{len(seen.trials)} of the {FEWEST} trainings that importance needs; of fewer it would be luck"
    return {
        "words": few if len(seen.trials) < FEWEST else "",
        "trainings": [
            {"name": f"trial {t.number}", "point": point, "values": seen.settings(t)}
            for t, point in zip(seen.trials, seen.points, strict=True)
        ],
        "objectives": [asdict(one) for one in seen.objectives],
        "dimensions": [
            {
                "name": name,
                "kind": d.kind,
                "log": d.log,
                "doc": d.doc,
                "choices": [str(choice) for choice in d.choices],
            }
            for name, d in seen.dimensions.items()
        ],
    }


def importances(
    store: Store, record: StudyRecord, front: StudyFront
) -> dict[str, dict[str, float]]:
    """By objective, the share of each dimension in what tells the best trainings from the rest, the largest first.

    The best are a tenth, and at least eight. Empty where there are too few trainings.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    seen = _Seen.of(store, record, front)
    used = {
        name: d
        for name, d in seen.dimensions.items()
        if sum(_value(t, name, seen.several) is not None for t in seen.trials) >= LEAST_USED
    }
    if len(seen.trials) < FEWEST or not used:
        return {}
    study = optuna.create_study(directions=["minimize"] * len(seen.objectives))
    settings = [{name: _value(t, name, seen.several) for name in used} for t in seen.trials]
    ranges = {name: _range(d, [one[name] for one in settings]) for name, d in used.items()}
    losses = [[-v if one.higher else v for v in one.values] for one in seen.objectives]
    for one, values in zip(settings, zip(*losses, strict=True), strict=True):
        params = {name: setting for name, setting in one.items() if setting is not None}
        own = {name: ranges[name] for name in params}
        study.add_trial(
            optuna.trial.create_trial(values=list(values), params=params, distributions=own)
        )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, BEST / len(settings)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that low values are better: they are
        return {
            one.name: get_param_importances(study, evaluator=evaluator, target=_target(place))
            for place, one in enumerate(seen.objectives)
        }


def _target(place: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(trial.values[place])


@dataclass(frozen=True)
class Objective:
    """What trainings are told apart by: a value for each of them."""

    name: str
    label: str
    higher: bool  # whether higher values are better
    values: list[float]


@dataclass(frozen=True)
class _Seen:
    """The ended trainings of a search, their best points, and the dimensions in which they differ."""

    trials: list[TrialRecord]
    points: list[int | None]
    objectives: list[Objective]
    dimensions: dict[str, Dimension]
    several: bool  # families

    @classmethod
    def of(cls, store: Store, record: StudyRecord, front: StudyFront) -> _Seen:
        trained = _trained(store, record, front)
        spaces = declared_spaces(stored_spec(record.spec))
        trials = [t for t, _ in trained]
        return cls(
            trials,
            [max(points, key=lambda p: p.accuracy).id for _, points in trained],
            _objectives(record, [points for _, points in trained]),
            _dimensions(spaces, trials),
            len(spaces) > 1,
        )

    def settings(self, trial: TrialRecord) -> dict[str, Any]:
        """By dimension; choices as text, which is how pages know them."""
        found = {
            name: (d, _value(trial, name, self.several)) for name, d in self.dimensions.items()
        }
        return {
            name: str(value) if d.kind == "choice" and value is not None else value
            for name, (d, value) in found.items()
        }


def _trained(
    store: Store, record: StudyRecord, front: StudyFront
) -> list[tuple[TrialRecord, list[PointRecord]]]:
    """Ended trials of the search that have points, with them."""
    points: dict[int, list[PointRecord]] = {}
    for p in front.points:
        if p.kind == Kind.SEARCH:
            points.setdefault(p.trial, []).append(p)
    trials = store.trials(record.name, kind=Kind.SEARCH, results=False)
    return [(t, points[t.number]) for t in trials if t.state in ENDED and t.number in points]


def _objectives(record: StudyRecord, trained: Sequence[Sequence[PointRecord]]) -> list[Objective]:
    metric, cost, costs = record.spec["objectives"][0], study_cost(record), study_costs(record)
    corner = reference_point_of(Reference(**record.reference), costs)
    best = [max(p.accuracy for p in points) for points in trained]
    taken = [cost.of(chosen_of(points)) for points in trained]
    own = [volume(own_front(curve_of(points, corner, costs))) for points in trained]
    return [
        Objective(metric, f"{metric.replace('_', ' ')} of the best setting", True, best),
        Objective(cost.name, f"{cost.label}, of the setting trained for", False, taken),
        Objective(WHOLE, "hypervolume of all settings of the training", True, own),
    ]


def _dimensions(
    spaces: Mapping[str, Sequence[Dimension]], trials: Sequence[TrialRecord]
) -> dict[str, Dimension]:
    """The dimensions in which the trainings differ, by the name that pages show."""
    several = len(spaces) > 1
    found: dict[str, Dimension] = {}
    if several:
        names = tuple(sorted(spaces))
        found[FAMILY] = Dimension(kind="choice", default=names[0], choices=names, name=FAMILY)
    for family, space in spaces.items():
        found |= {f"{family}.{d.name}" if several else d.name: d for d in space}
    return {
        name: d
        for name, d in found.items()
        if len({_value(t, name, several) for t in trials} - {None}) > 1
    }


def _value(t: TrialRecord, name: str, several: bool) -> Any:
    """The training's setting of a dimension; None where it has no use for it."""
    if not several:
        return t.params.get(name)
    if name == FAMILY:
        return t.family
    family, _, own = name.rpartition(".")
    return t.params.get(own) if family == t.family else None


def _range(d: Dimension, values: Sequence[Any]) -> BaseDistribution:
    """The dimension as Optuna has it, wide enough for what was trained before its file was narrowed."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    known = [value for value in values if value is not None]
    if d.kind == "choice":
        others = [value for value in known if value not in d.choices]
        return CategoricalDistribution(tuple(dict.fromkeys([*d.choices, *others])))
    low, high = min([d.low, *known]), max([d.high, *known])
    if d.kind == "int":
        return IntDistribution(int(low), int(high), log=d.log)
    return FloatDistribution(low, high, log=d.log)
