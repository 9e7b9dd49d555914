"""What a family of networks offers to the search, and a candidate drawn from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spaces.contract.recipe import Recipe
from spaces.contract.resolution import IMAGE_SIZE
from spaces.contract.space import Dimension, Value, active_names, dimensions, suggested
from spaces.contract.task import Task

if TYPE_CHECKING:
    import optuna

    from spaces.contract.net import DynamicNet


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a family says of itself, without its networks: enough to check a study file and to describe a network."""

    name: str
    doc: str
    space: tuple[Dimension, ...]
    size_dimensions: tuple[str, ...]
    size_words: Mapping[str, str]
    traits: tuple[str, ...]
    sized_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of networks. Its space is the dimensions of `config` followed by those of `recipe`.

    build(config, task) makes the network. `size_dimensions` are the dimensions that set its size, for each of which
    there is a baseline; `smaller_sizes` adds values of them, so that baselines as cheap as the dynamic networks are
    compared too. `baseline_dimensions` are the others that the baseline has too. A config has a field `gated`, False in
    the baseline's.

    A network is described by its size, as `size_words` puts the value of each size dimension, and by the values of
    `traits`, the dimensions that tell what makes it dynamic. `rebuilt_with` are values of the config that a network
    takes when its weights are in a file already. `sized_by` is the dimension that names a published network, if there
    is one, and `sized(space, its value)` is the space with the sizes of that network. Raises ValueError when
    `size_words` are not of the size dimensions, or when the family declares the size of the images, which is a
    dimension of every family. `numbers` are dimensions of the config that no forward pass reads, but the objective and
    the first weights alone: networks that differ in nothing else can train as one, see trainers.fused. None: none can.
    """

    name: str
    doc: str
    config: type
    recipe: type[Recipe]
    build: Callable[[Any, Task], DynamicNet]
    size_dimensions: tuple[str, ...]
    smaller_sizes: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    baseline_dimensions: tuple[str, ...] = ()
    size_words: Mapping[str, str]  # such as {"layers": "{} layers"}, in the order of reading
    traits: tuple[str, ...] = ()
    rebuilt_with: Mapping[str, Value] = field(default_factory=dict)
    sized_by: str = ""
    sized: Callable[[Sequence[Dimension], str], tuple[Dimension, ...]] | None = None
    numbers: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if set(self.size_words) != set(self.size_dimensions):
            raise ValueError(
                f"{self.name}: size_words has {', '.join(self.size_words) or 'nothing'}; "
                f"give words for each of {', '.join(self.size_dimensions)}"
            )
        if IMAGE_SIZE in {f.name for of in (self.config, self.recipe) for f in fields(of)}:
            raise ValueError(f"{self.name}: {IMAGE_SIZE} is the study's; name the field otherwise")

    def plain(self, config: Any) -> Any:
        """The config of the baseline of the same size."""
        kept = {
            name: getattr(config, name)
            for name in (*self.size_dimensions, *self.baseline_dimensions)
        }
        if getattr(config, "truncated", None) is not None:  # a baseline itself
            kept["truncated"] = config.truncated
        return self.config(gated=False, **kept)

    @cached_property  # read for every candidate that a search weighs
    def space(self) -> tuple[Dimension, ...]:
        return dimensions(self.config) + dimensions(self.recipe)

    @cached_property
    def config_names(self) -> frozenset[str]:
        return frozenset(f.name for f in fields(self.config))

    @cached_property
    def recipe_names(self) -> frozenset[str]:
        return frozenset(f.name for f in fields(self.recipe)) - {"epochs"}

    @property
    def declaration(self) -> Declaration:
        return Declaration(**{f.name: getattr(self, f.name) for f in fields(Declaration)})


@dataclass(frozen=True)
class Candidate:
    """One thing to train: a family, a network's config and a training recipe.

    `image_size` is the side of its images in a study that searches several; None where all networks have the same.
    """

    family: Family
    config: Any
    recipe: Recipe
    image_size: int | None = None

    @classmethod
    def suggested(
        cls,
        trial: optuna.trial.BaseTrial,
        family: Family,
        space: tuple[Dimension, ...],
        epochs: int,
    ) -> Candidate:
        """Drawn by an Optuna trial (a FixedTrial replays stored parameters) from a possibly narrowed space."""
        return cls.of(family, suggested(trial, space, family.name), epochs)

    @classmethod
    def of(cls, family: Family, values: Mapping[str, Any], epochs: int) -> Candidate:
        """From a value for each dimension; those not given take their defaults."""
        names = family.config_names
        config = family.config(**{k: v for k, v in values.items() if k in names})
        recipe_names = family.recipe_names
        recipe = family.recipe(
            epochs=epochs, **{k: v for k, v in values.items() if k in recipe_names}
        )
        return cls(family, config, recipe, values.get(IMAGE_SIZE))

    @property
    def published(self) -> str | None:
        """The published weights that a training starts from where it is given none; None for those it is built with."""
        return getattr(self.config, "published", None)

    @property
    def params(self) -> dict[str, Value]:
        """The values of the dimensions that matter, and a non-default value of anything else."""
        values = self.values
        shown = active_names(self.family.space, values)
        params = {name: values[name] for name in shown}
        if values.get("gated") is False:
            kept = (*self.family.size_dimensions, *self.family.baseline_dimensions)
            params = {name: values[name] for name in kept if name in shown}
            params |= {
                d.name: values[d.name] for d in dimensions(self.family.recipe) if d.name in shown
            }
            params["gated"] = False
            if values.get("truncated") is not None:
                params["truncated"] = values["truncated"]
        return params | self._side

    @property
    def values(self) -> dict[str, Value]:
        own = {f.name: getattr(self.config, f.name) for f in fields(self.config)} | self._side
        return own | {
            f.name: getattr(self.recipe, f.name) for f in fields(self.recipe) if f.name != "epochs"
        }

    @property
    def _side(self) -> dict[str, Value]:
        return {} if self.image_size is None else {IMAGE_SIZE: self.image_size}

    @property
    def likeness(self) -> Hashable | None:
        """Equal for candidates whose networks can train as one, see trainers.fused; None where it can with no other."""
        numbers = self.family.numbers
        if numbers is None:
            return None
        names = [f.name for f in fields(self.config) if f.name not in numbers]
        own = tuple((name, getattr(self.config, name)) for name in names)
        return self.family.name, own, self.image_size, self.recipe.epochs, self.recipe.batch

    def task(self, task: Task) -> Task:
        """A study's task with images of the candidate's own size."""
        return task.at(self.image_size)

    @cached_property
    def key(self) -> str:
        """Equal for candidates that differ only in dimensions that do not matter."""
        unset = {d.name: d.default for d in self.family.space if d.later}
        params = {
            name: value
            for name, value in self.params.items()
            if name not in unset or value != unset[name]
        }
        return json.dumps([self.family.name, self.recipe.epochs, params], sort_keys=True)

    def baseline(self) -> Candidate:
        """The ungated network of the same size under the same recipe; it has no teacher."""
        recipe = replace(self.recipe, distill=0.0)
        return replace(self, config=self.family.plain(self.config), recipe=recipe)

    def outline(self, task: Task) -> DynamicNet:
        """The network without memory for its weights: its shapes. Raises ValueError where it cannot be built."""
        from spaces.contract.outlines import shapes_only

        with shapes_only():
            return self.family.build(self.config, self.task(task))

    def build(self, task: Task, seed: int) -> DynamicNet:
        """The network for images of its size, weights drawn from `seed` without touching the global generator."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.family.build(self.config, self.task(task))
