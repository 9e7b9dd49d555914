"""The samplers by the names that study files use. A new one is a `Sampler` (see sampler.py), and a row here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.schedule.sampler import Sampler, Setting


def _growth(setting: Setting) -> Sampler:
    from search.schedule.growth_sampler import Growth

    return Growth(setting)


def _optuna(name: str, setting: Setting) -> Sampler:
    from search.schedule import optuna_sampler

    makers = {
        "tpe": optuna_sampler.tpe,
        "nsgaii": optuna_sampler.nsgaii,
        "gp": optuna_sampler.gp,
        "random": optuna_sampler.random,
    }
    # NSGA-II marks each trial that it chooses with its generation
    return optuna_sampler.OptunaSampler(setting, makers[name], marks=name == "nsgaii")


SAMPLERS: dict[str, Callable[[Setting], Sampler]] = {
    "growth": _growth,
    "tpe": partial(_optuna, "tpe"),
    "nsgaii": partial(_optuna, "nsgaii"),
    "gp": partial(_optuna, "gp"),
    "random": partial(_optuna, "random"),
    "grid": partial(_optuna, "random"),  # every parameter is given
}
