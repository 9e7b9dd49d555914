"""The scheduler of a study: every part of it, as the study file asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from search.exact import is_exact
from search.front.live import LiveFront
from search.front.pareto import reference_point_of
from search.objectives import Reference
from search.schedule.asking import Asking
from search.schedule.baseline_pool import BaselinePool
from search.schedule.duplicates import Duplicates, NoDuplicates
from search.schedule.early_stopping import EarlyStopping
from search.schedule.history import History, Params
from search.schedule.limits import limit_of
from search.schedule.lineup import Lineup
from search.schedule.ranking import Ranks
from search.schedule.sampler import Setting, Spaces, starting_points
from search.schedule.samplers import SAMPLERS
from search.schedule.scheduler import Scheduler
from search.schedule.sizes import baseline_size
from search.schedule.timed_shapes import shapes_of
from search.schedule.training_length import TrainingLength
from search.schedule.warm_start import epochs_of, two_lengths
from search.spec import StudySpec, exact_settings, narrowed_spaces
from spaces.contract.task import Task

# of the slots, so many suggestions are made from one look at what is known: with all slots busy, each decides without
# what the others will show, and these decide without a little more
SHARE = 4


def scheduler_for(
    spec: StudySpec,
    task: Task,
    reference: Reference,
    majority: float = 0.0,
    slots: int = 1,
    ranks: Ranks | None = None,
) -> Scheduler:
    """What decides for a study, before it knows of any trial.

    `majority` is the accuracy of always answering the most frequent class: what is no better is not shown. `slots`
    trainings run at once. `ranks`: what ranks candidates, if not this process.
    """
    baselines, exact = BaselinePool(spec, narrowed_spaces(spec)), is_exact(spec)
    setting = setting_of(spec, task, reference, slots)
    setting = replace(setting, trained=lambda: baselines.trained, ranks=ranks)
    costs, limit = len(spec.costs), setting.limit
    asking = Asking(
        spaces=setting.spaces,
        sampler=SAMPLERS["grid" if exact else spec.sampler](setting),
        length=TrainingLength(
            setting.short,
            (lambda _: spec.budget.epochs) if two_lengths(spec) and not exact else None,
            costs,
        ),
        limit=limit,
        history=History.empty(costs),
        starts=_first_ones(spec, setting.spaces),
        ahead=setting.ahead,
    )
    return Scheduler(
        seed=spec.seed,
        trials=spec.budget.trials,
        asking=asking,
        stopping=EarlyStopping() if spec.early_stopping else None,
        lineup=Lineup(spec.seed, baselines, NoDuplicates() if exact else Duplicates()),
        front=LiveFront(spec, reference, majority),
    )


def setting_of(spec: StudySpec, task: Task, reference: Reference, slots: int = 1) -> Setting:
    """What a study's sampler is made for; the same in every process."""
    spaces, costs = narrowed_spaces(spec), spec.costs
    return Setting(
        spaces=spaces,
        costs=len(costs),
        seed=spec.seed,
        trials=spec.budget.trials,
        size=baseline_size(task, reference_point_of(reference, costs), costs, shapes_of(spec)),
        epoch_cost=BaselinePool(spec, spaces).epoch_cost,
        limit=limit_of(spec, task),
        short=partial(epochs_of, spec),
        given=len(_first_ones(spec, spaces)),
        together=max(1, slots // SHARE),
    )


def _first_ones(spec: StudySpec, spaces: Spaces) -> Sequence[Params]:
    """The trials whose parameters are given: all that the file lists, repeat by repeat, or known-good ones."""
    if not is_exact(spec):
        return starting_points(spaces) if spec.starting_points else []
    given: list[Params] = []
    for name, values in exact_settings(spec):
        family = {"family": name} if len(spaces) > 1 else {}
        given.append(family | {f"{name}.{key}": value for key, value in values.items()})
    return given * spec.repeats
