"""What a study needs whose networks are trained on several GPUs each, checked before anything is read."""

from __future__ import annotations

import torch

from search.spec import narrowed_spaces
from search.study_keys import StudySpec
from spaces.contract.trunk import FROZEN, trunks

KEY = "run.gpus_per_trial"


def check_gpus(spec: StudySpec, workers: int) -> None:
    """Raises ValueError where a study's networks cannot be trained on so many GPUs each."""
    each, here = spec.run.gpus, not spec.run.uses_ray
    if each == 1:
        return
    if here and spec.run.device != "cpu" and (there := torch.cuda.device_count()) < each:
        found = f"{there} GPU{'s' * (there != 1)}" if there else "no GPU"
        fix = f"write {there} or less" if there > 1 else "leave it out"
        raise ValueError(
            f"{KEY}: {each} are asked for, and torch finds {found} here; {fix}, or write "
            "`device: cpu` to train with so many processes on the CPU"
        )
    if here and not workers:
        raise ValueError(
            f"{KEY}: a network on several GPUs is trained by processes of its own; "
            "give --workers 1 or more"
        )
    if spec.run.compile:
        raise ValueError(f"{KEY}: does not go with run.compile; leave one of the two out")
    for name, space in narrowed_spaces(spec).items():
        if FROZEN in trunks(space):
            raise ValueError(
                f"{KEY}: space.{name}.trunk: frozen trains heads on features, in seconds on one GPU; "
                "leave one of the two out"
            )
