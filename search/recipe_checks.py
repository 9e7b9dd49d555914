"""What a study file says of recipes, beyond single values: keys that need each other, or data, or epochs.

Each check raises ValueError with one line that names the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.study_keys import StudySpec
from spaces.contract.optimization import last_epoch
from spaces.contract.recipe import CHANGES_OF_IMAGES, PRETRAINED
from spaces.contract.space import Dimension, Value
from spaces.contract.trunk import FROZEN, trunks

EXITS = "exits"  # a choice of `dynamics`; under the others gates change what a frozen trunk makes


def check_trunks(spec: StudySpec, where: str, spaces: Mapping[str, tuple[Dimension, ...]]) -> None:
    """A trunk that keeps its weights needs some that were trained."""
    for name, space in spaces.items():
        pretrained = next((d for d in space if d.name == PRETRAINED), None)
        if FROZEN not in trunks(space) or spec.initial(name) is not None:
            continue
        loads = pretrained is not None and pretrained.searched and pretrained.choices == (True,)
        if not loads:
            fix = "name a file in `init_from`"
            fix = f"write `pretrained: true` beside it, or {fix}" if pretrained else fix
            raise ValueError(f"{where}: space.{name}.trunk: frozen needs trained weights: {fix}")


def check_teacher(spec: StudySpec, where: str, name: str, space: Sequence[Dimension]) -> None:
    """Trials learn from baselines of the study's own, which it trains for warm starts and which read whole images."""
    searched = {dimension.name: dimension for dimension in space if dimension.searched}
    distill = searched.get("distill")
    if distill is None or not any(distill.choices or [True]):
        return
    if FROZEN in trunks(space) and EXITS in _dynamics(space):
        raise ValueError(
            f"{where}: space.{name}.distill: heads of a frozen trunk train on features, which no baseline can answer "
            "for; leave distill or trunk: frozen out"
        )
    if spec.warm(name):
        return
    reason, fix = "warm_start: false", "leave one of the two out"
    if spec.warm_start:
        reason, fix = "init_from", "with `budget.warm_epochs` the file's network is trained first"
    raise ValueError(
        f"{where}: space.{name}.distill: no baseline is trained to learn from, because of {reason}; {fix}"
    )


def check_images_read(where: str, name: str, space: Sequence[Dimension]) -> None:
    """Behind a frozen trunk, heads read features of images that were changed once: nothing changes them in training.

    Behind gates there are no such features: each image is read.
    """
    searched = {dimension.name: dimension for dimension in space if dimension.searched}
    if trunks(space) != (FROZEN,) or _dynamics(space) != (EXITS,):
        return
    for unread in sorted(CHANGES_OF_IMAGES & searched.keys()):
        raise ValueError(
            f"{where}: space.{name}.{unread}: has no effect on a frozen trunk, whose features are computed once; "
            "leave it out; `feature_views` says how many views of an image are kept"
        )


def _dynamics(space: Sequence[Dimension]) -> tuple[Value, ...]:
    """What candidates are made dynamic by: exits alone, in families that do not say."""
    named = next((dimension for dimension in space if dimension.name == "dynamics"), None)
    return (EXITS,) if named is None else named.taken


def check_milestones(spec: StudySpec, where: str, name: str, space: Sequence[Dimension]) -> None:
    """Milestones that are epochs lie within every training, short ones too."""
    short = spec.budget.short if spec.warm(name) else spec.budget.epochs
    named = [one for one in space if one.name == "lr_milestones" and one.searched]
    for text in (str(choice) for one in named for choice in one.choices):
        if last_epoch(text) >= short:
            raise ValueError(
                f"{where}: space.{name}.lr_milestones: {text}: a training has {short} epochs; write fractions of it, "
                "such as 0.5+0.75, or fewer epochs"
            )
