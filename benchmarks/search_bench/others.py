"""Other libraries' multi-objective searches that may stop trainings early, where they are installed (extra `bench`).

Run with syne-tune 0.16.0, smac 2.4.1 (ConfigSpace 1.2.2) and neural-pipeline-search 0.17.0; the last wants pandas below
3. They are told what their users would tell them: one point a training, as losses in the box (accuracy's, MACs), with
rungs after 2, 6 and 18 of 18 epochs. Trainings that go on cost only the further epochs, as with checkpoints. Dimensions
that can never matter in the narrowed space are left out. SMAC gets the conditions; the spaces of the others are flat,
and what does not matter in a combination is ignored. A combination that its family refuses costs nothing: SMAC and NePS
are told the worst of the box, Syne Tune asks again.

Syne Tune 0.16's MOASHA takes the order of its non-dominated sort for ranks: of the losses (3, 3), (1, 1), (2, 2) and
(4, 4) it calls the first better than the second. It stands here as it is, and with ranks.

OptunaHub's AutoSampler and its pruner for several objectives are left out: the package on PyPI holds only the loader,
`optunahub.load_module` clones the code from GitHub.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from importlib.util import find_spec
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from optuna.trial import FixedTrial

from benchmarks.search_bench.table import Training
from benchmarks.search_bench.world import SpentError, World
from search.front.curves import Curve
from search.schedule.sampler import InfeasibleError, Spaces, draw_candidate
from spaces.contract.space import Dimension, Value

GRACE, ETA = 2, 3  # epochs before the first decision, ratio of rungs
NAMES = ("loss", "macs")
WORST = np.ones((1, 2))


def others() -> dict[str, Callable[[World], None]]:
    """Methods by name, of the libraries that are installed."""
    known = {
        "syne tune moasha": ("syne_tune", moasha),
        "syne tune moasha, its ranks repaired": ("syne_tune", repaired_moasha),
        "smac multi-fidelity parego": ("smac", smac),
        "neps mo-hyperband": ("neps", neps),
    }
    return {name: method for name, (package, method) in known.items() if find_spec(package)}


def flat(spaces: Spaces) -> list[Dimension]:
    """All searched dimensions that can matter, parents first, named as in an Optuna trial and so in conditions too."""
    families = tuple(sorted(spaces))
    found = [Dimension(kind="choice", default=families[0], choices=families, name="family")]
    for family in families:
        conditions: dict[str, dict[str, tuple[Value, ...]]] = {}
        values: dict[str, tuple[Value, ...]] = {}
        for one in spaces[family]:
            if (when := _conditions(family, one, conditions, values)) is None:
                continue
            conditions[one.name] = when
            values[one.name] = (
                one.choices if one.searched and one.kind == "choice" else (one.default,)
            )
            if not one.fixed:
                found.append(replace(one, name=f"{family}.{one.name}", when=when))
    return found


def _conditions(
    family: str,
    one: Dimension,
    conditions: Mapping[str, Mapping[str, tuple[Value, ...]]],
    values: Mapping[str, tuple[Value, ...]],
) -> dict[str, tuple[Value, ...]] | None:
    """Values that searched dimensions must have for this one to matter, its parents' included; None if it never can."""
    found: dict[str, tuple[Value, ...]] = {"family": (family,)}
    for parent, allowed in one.when.items():
        if parent not in conditions:
            return None
        own = dict(conditions[parent])
        kept = tuple(value for value in values[parent] if value in allowed)
        if len(kept) < len(values[parent]):
            own[f"{family}.{parent}"] = kept
        for name, these in own.items():
            found[name] = tuple(value for value in found.get(name, these) if value in these)
    return found if all(found.values()) else None


class Trainings:
    """Trainings that can be gone on with, of candidates as a library names them: choices by their position."""

    def __init__(self, world: World) -> None:
        self.world, self.dimensions = world, flat(world.table.spaces)
        self._under_way: dict[Any, tuple[Training, int]] = {}  # with the epochs that are paid

    def point(self, key: Any, positions: Mapping[str, Any], epoch: int) -> Curve | None:
        """(1, 2) losses of the training `key` after an epoch, once that is paid; None if the family refuses it."""
        values = {
            d.name: _value(d, positions[d.name]) for d in self.dimensions if d.name in positions
        }
        try:
            candidate = draw_candidate(
                FixedTrial(values), self.world.table.spaces, lambda _: self.world.table.epochs
            )
        except InfeasibleError:
            return None
        known = self._under_way.get(key)
        training, paid = known or (self.world.find(candidate.family.name, candidate.params), 0)
        self.world.train(training, min(paid, epoch), epoch)
        self._under_way[key] = training, max(epoch, paid)
        return self.world.reference_point.curve([training.trained[epoch - 1]])


def _value(dimension: Dimension, given: Any) -> Value:
    if dimension.kind == "choice":
        return dimension.choices[int(given)]
    # rounding of a logarithm may lead out of the range
    inside = min(max(float(given), dimension.low), dimension.high)
    return round(inside) if dimension.kind == "int" else inside


def _told(point: Curve) -> dict[str, float]:
    return dict(zip(NAMES, point[0].tolist(), strict=True))


def moasha(world: World, priority: Any = None) -> None:
    """Syne Tune's asynchronous successive halving for several objectives, with one worker.

    `priority` ranks trainings; None is the library's default.

    Salinas, Perrone, Archambeau and Cruchant, "A multi-objective perspective on jointly tuning hardware and
    hyperparameters", NAS workshop at ICLR, 2021. Sets the seed of NumPy's global generator, from which it samples.
    """
    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    np.random.seed(world.seed)
    trainings = Trainings(world)
    scheduler = MOASHA(
        {d.name: _syne_tune_domain(d) for d in trainings.dimensions},
        metrics=list(NAMES),
        time_attr="epoch",
        multiobjective_priority=priority,
        max_t=world.table.epochs,
        grace_period=GRACE,
        reduction_factor=ETA,
        random_seed=world.seed,
    )
    with suppress(SpentError):
        for number in count():
            trial = Trial(number, scheduler.suggest().config, datetime.now())
            scheduler.on_trial_add(trial)
            point = None
            for epoch in range(1, world.table.epochs + 1):
                point = trainings.point(number, trial.config, epoch)
                if point is None:
                    break
                result = {"epoch": epoch, **_told(point)}
                if scheduler.on_trial_result(trial, result) == SchedulerDecision.STOP:
                    break
            if point is not None:
                world.count(point)
            scheduler.on_trial_remove(trial)


def repaired_moasha(world: World) -> None:
    """The same, ranked by non-dominated layers and in each by the library's epsilon net, as its authors describe."""
    from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import MOPriority
    from syne_tune.optimizer.schedulers.multiobjective.non_dominated_priority import (
        compute_epsilon_net,
        nondominated_sort,
    )

    class Ranks(MOPriority):
        def priority_unsafe(self, objectives: np.ndarray) -> np.ndarray:
            found, better = np.empty(len(objectives), dtype=int), 0
            for layer in nondominated_sort(objectives, flatten=False):
                found[layer] = better + compute_epsilon_net(objectives[layer], dim=0)
                better += len(layer)
            return found

    moasha(world, Ranks())


def _syne_tune_domain(dimension: Dimension) -> Any:
    from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform

    if dimension.kind == "choice":
        return choice(list(range(len(dimension.choices))))
    if dimension.kind == "int":
        return (lograndint if dimension.log else randint)(int(dimension.low), int(dimension.high))
    return (loguniform if dimension.log else uniform)(dimension.low, dimension.high)


def smac(world: World) -> None:
    """SMAC3's multi-fidelity facade (Hyperband, a random forest) with ParEGO.

    Lindauer, Eggensperger, Feurer and others, "SMAC3: a versatile Bayesian optimization package for hyperparameter
    optimization", JMLR, 2022.
    """
    from smac import MultiFidelityFacade, Scenario
    from smac.multi_objective.parego import ParEGO
    from smac.runhistory.dataclasses import TrialValue

    trainings = Trainings(world)
    with TemporaryDirectory() as folder, suppress(SpentError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scenario = Scenario(
            _config_space(trainings.dimensions, world.seed),
            objectives=list(NAMES),
            deterministic=True,
            # a quarter of them: the random ones at the start
            n_trials=round(world.budget / world.table.epochs * ETA),
            min_budget=GRACE,
            max_budget=world.table.epochs,
            seed=world.seed,
            output_directory=folder,
        )
        facade = MultiFidelityFacade(
            scenario,
            _never,
            # with any other choice of incumbents an assertion fails: https://github.com/automl/SMAC3/pull/1129
            intensifier=MultiFidelityFacade.get_intensifier(
                scenario, eta=ETA, incumbent_selection="highest_budget"
            ),
            multi_objective_algorithm=ParEGO(scenario),
            logging_level=logging.ERROR,
            overwrite=True,
        )
        while True:
            trial = facade.ask()
            point = trainings.point(trial.config, dict(trial.config), round(trial.budget))
            if point is not None:
                world.count(point)
            cost = (WORST if point is None else point)[0].tolist()
            facade.tell(trial, TrialValue(cost=cost), save=False)


def _never(config: Any, seed: int, budget: float) -> dict[str, float]:
    raise AssertionError("asked and told, not called")


def _config_space(dimensions: Iterable[Dimension], seed: int) -> Any:
    from ConfigSpace import (
        AndConjunction,
        Categorical,
        ConfigurationSpace,
        Float,
        InCondition,
        Integer,
    )

    space = ConfigurationSpace(seed=seed)
    known = {d.name: d for d in dimensions}
    for d in known.values():
        if d.kind == "choice":
            one = Categorical(d.name, list(range(len(d.choices))))
        elif d.kind == "int":
            one = Integer(d.name, (int(d.low), int(d.high)), log=d.log)
        else:
            one = Float(d.name, (d.low, d.high), log=d.log)
        space.add(one)
        conditions = [
            InCondition(
                one, space[parent], [known[parent].choices.index(value) for value in values]
            )
            for parent, values in d.when.items()
        ]
        if conditions:
            space.add(AndConjunction(*conditions) if len(conditions) > 1 else conditions[0])
    return space


def neps(world: World) -> None:
    """NePS's Hyperband for several objectives, by epsilon nets.

    Schmucker, Donini, Zafar, Salinas and Archambeau, "Multi-objective asynchronous successive halving",
    arXiv:2106.12639, 2021, whose choice it makes in Hyperband's brackets. Sets the seeds of the global generators.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from neps import AskAndTell, HPOInteger, SearchSpace, algorithms

    random.seed(world.seed)
    np.random.seed(world.seed)
    torch.manual_seed(world.seed)
    trainings = Trainings(world)
    parameters = {d.name: _neps_parameter(d) for d in trainings.dimensions}
    fidelity = HPOInteger(GRACE, world.table.epochs, is_fidelity=True)
    search = AskAndTell(
        algorithms.mo_hyperband(SearchSpace({**parameters, "epochs": fidelity}), eta=ETA)
    )
    with suppress(SpentError):
        while True:
            trial = search.ask()
            point = trainings.point(
                trial.id.split("_")[0], trial.config, int(trial.config["epochs"])
            )
            if point is not None:
                world.count(point)
            search.tell(
                trial, {"objective_to_minimize": (WORST if point is None else point)[0].tolist()}
            )


def _neps_parameter(dimension: Dimension) -> Any:
    from neps import HPOCategorical, HPOFloat, HPOInteger

    if dimension.kind == "choice":
        return HPOCategorical(list(range(len(dimension.choices))))
    if dimension.kind == "int":
        return HPOInteger(int(dimension.low), int(dimension.high), log=dimension.log)
    return HPOFloat(dimension.low, dimension.high, log=dimension.log)
