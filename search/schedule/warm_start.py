"""Baselines: those of every size, for the comparison, and those that trainings start from.

Gates, exits and oracles are learned faster in a network that classifies already; the papers fine-tune trained ones. A
study with `warm_start` trains each size's baseline once, and the candidates of that size start from it. Where the study
file gives them fewer epochs (`budget.warm_epochs`), that is until such trials add nothing to the front; the rest are
trained from scratch, at full length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import product

from search.schedule.sizes import baseline_names, sizes
from search.spec import StudySpec
from spaces.contract.family import Candidate, Family
from spaces.contract.registry import family
from spaces.contract.space import Dimension, Value
from spaces.contract.trunk import is_frozen

HEADS_LR = 0.02  # of SGD, on features at mean 0 and deviation 1
# trainings that a baseline is paid for by, when a candidate that needs a new one is weighed
USES = 3


def epochs_of(spec: StudySpec, name: str) -> int:
    """The epochs of a searched trial of this family, of a short one where there are two lengths."""
    return spec.budget.short if warm(spec, name) else spec.budget.epochs


def two_lengths(spec: StudySpec) -> bool:
    """Whether trials that start from baselines are shorter than others, which follow them."""
    return any(epochs_of(spec, name) < spec.budget.epochs for name in spec.families)


def starts_from_baseline(spec: StudySpec, name: str, epochs: int) -> bool:
    """Whether a trial of so many epochs starts from the baseline of its size.

    Where those from baselines are shorter, one of the study's full length starts from scratch: it finds what short ones
    do not. Where they are not, all start from baselines.
    """
    return warm(spec, name) and epochs <= spec.budget.short


def needs_baseline(spec: StudySpec, candidate: Candidate) -> bool:
    """Whether the baseline of its size has to be there before a trial: as a start, or as a teacher."""
    name = candidate.family.name
    taught = warm(spec, name) and candidate.recipe.distill > 0
    return taught or starts_from_baseline(spec, name, candidate.recipe.epochs)


def warm(spec: StudySpec, name: str) -> bool:
    """Whether baselines of the study's own are where this family's trials start, as long as that pays."""
    return spec.warm(name)


def baseline_of(spec: StudySpec, space: Sequence[Dimension], candidate: Candidate) -> Candidate:
    """The baseline that a candidate starts from: its size, under the family's recommended recipe."""
    own, values = candidate.family, candidate.values
    size = {name: values[name] for name in baseline_names(own) if name in values}
    return sized_baseline(own, space, size, spec.budget.epochs)


def baseline_key(spec: StudySpec, baseline: Candidate) -> str:
    """The key of a baseline's checkpoint: the same for every trial that starts from it."""
    return f"{spec.study}/plain-{hashlib.sha256(baseline.key.encode()).hexdigest()[:16]}"


def all_baselines(spaces: Mapping[str, tuple[Dimension, ...]], epochs: int) -> list[Candidate]:
    """The baselines of every size in the narrowed spaces, and of the smaller sizes that the families name."""
    found = {}
    for name, space in spaces.items():
        own = family(name)
        searched = sizes(own, space)
        names = list(searched[0])
        choices = [
            sorted({*(one[size] for one in searched), *own.smaller_sizes.get(size, ())}, key=str)
            for size in names
        ]
        for one in product(*choices):
            candidate = sized_baseline(own, space, dict(zip(names, one, strict=True)), epochs)
            found[candidate.key] = candidate
    return list(found.values())


def sized_baseline(
    own: Family, space: Sequence[Dimension], size: Mapping[str, Value], epochs: int
) -> Candidate:
    """The baseline of a size, by the recipe that the narrowed space recommends."""
    values = for_heads(space, recommended(space) | dict(size))
    return Candidate.of(own, values, epochs).baseline()


def recommended(space: Sequence[Dimension]) -> dict[str, Value]:
    """Each dimension's default, as near as the study allows."""
    found = {}
    for d in space:
        found[d.name] = d.default if d.kind == "choice" else min(d.high, max(d.low, d.default))
    return found


def for_heads(space: Sequence[Dimension], values: Mapping[str, Value]) -> dict[str, Value]:
    """The values, where the trunk is frozen with the learning rate that heads alone want, as near as the study allows.

    With a rate for whole networks the baselines would be worse than need be, and flatter what is compared with them.
    """
    found = dict(values)
    for d in space:
        if is_frozen(found) and d.name == "lr" and d.kind == "float":
            found[d.name] = min(d.high, max(d.low, HEADS_LR))
    return found
