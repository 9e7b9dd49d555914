"""How large the experiments are: three sizes of all of them.

With a power, the number of seeds is only that of a pilot: each claim gets as many more as it needs to be decided.

Numbers of epochs and sizes of networks are far below the papers' at every scale; learning rates are the recipes'
defaults but for transformers on few images. None of them was chosen by the accuracies that the claims then compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainers.data.splits import DataSpec


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Data, seeds and sizes. `fractions` are MAC targets on both sides of the small baseline's share of the large."""

    name: str
    data: DataSpec
    seeds: int
    gates: Mapping[str, Any]  # gated_resnet of the probabilistic gates
    gates_epochs: int
    mid_targets: tuple[float, ...]
    residual: Mapping[str, Any]  # gated_resnet under MAC targets, beside its depth
    residual_epochs: int
    large: str
    small: str
    fractions: tuple[float, ...]
    pressure: float = 0.5  # times the published factors of losses without a target
    exits: Mapping[str, Any]
    deeper_exits: str  # a deeper backbone
    exits_epochs: int
    routed: Mapping[str, Any]  # vision transformers
    routed_epochs: int
    # of a trained transformer, beside its size
    refining: Mapping[str, Any] = field(default_factory=dict)
    refining_epochs: int
    copies: int  # trained on from one, to merge
    draws: int  # random orders, subsets of layers, merged networks
    passes: int = 5  # of stochastic gates
    recalibration: int = 50  # training batches that refresh batch norms
    power: float | None = (
        None  # chance to decide a claim whose difference is the least that matters
    )
    most_seeds: int = 20


_VIT_DIGITS = {"layers": 4, "dim": 32, "head_dim": 16, "mlp_ratio": 2, "patch": 4, "batch": 16}
SMOKE = Scale(
    name="smoke", data=DataSpec(source="digits", validation=0.3), seeds=2,
    gates={"backbone": "resnet8", "width": 0.25, "batch": 64}, gates_epochs=8, mid_targets=(0.5,),
    residual={"width": 0.25, "batch": 64}, residual_epochs=6, large="resnet14", small="resnet8", fractions=(0.2, 0.65),
    exits={"backbone": "resnet18", "width": 0.125, "batch": 64}, deeper_exits="resnet50", exits_epochs=4,
    routed=_VIT_DIGITS | {"adamw_lr": 3e-3}, routed_epochs=6, refining={"adamw_lr": 1e-3}, refining_epochs=2,
    copies=2, draws=4, recalibration=20,
)  # fmt: skip

_VIT_CPU = {"layers": 6, "dim": 64, "head_dim": 32, "mlp_ratio": 2, "patch": 4, "batch": 64}
CPU = Scale(
    name="cpu", data=DataSpec(source="cifar10", train_limit=3000, validation_limit=1000, image_size=16), seeds=3,
    gates={"backbone": "resnet14", "width": 0.25, "batch": 64}, gates_epochs=8, mid_targets=(0.5,),
    residual={"width": 0.25, "batch": 64}, residual_epochs=8,
    large="resnet14", small="resnet8", fractions=(0.2, 0.4, 0.65),
    pressure=0.1,  # with a half, all gates of all six networks close: there is nothing to compare
    exits={"backbone": "resnet18", "width": 0.125, "batch": 64}, deeper_exits="resnet50", exits_epochs=6,
    routed=_VIT_CPU, routed_epochs=12, refining={"adamw_lr": 3e-4}, refining_epochs=6, copies=3, draws=10,
    power=0.8,
)  # fmt: skip

_VIT_GPU = {"layers": 8, "dim": 192, "head_dim": 32, "mlp_ratio": 2, "patch": 4, "batch": 256}
GPU = Scale(
    name="gpu", data=DataSpec(source="cifar10"), seeds=3,
    gates={"backbone": "resnet32", "batch": 256}, gates_epochs=15, mid_targets=(0.4, 0.6),
    residual={"batch": 256}, residual_epochs=15, large="resnet20", small="resnet14", fractions=(0.35, 0.55, 0.8),
    pressure=0.1,
    exits={"backbone": "resnet18", "width": 0.5, "batch": 256}, deeper_exits="resnet50", exits_epochs=20,
    routed=_VIT_GPU, routed_epochs=25, refining={"adamw_lr": 3e-4}, refining_epochs=10, copies=4, draws=20,
    power=0.9,
)  # fmt: skip

SCALES = {scale.name: scale for scale in (SMOKE, CPU, GPU)}


def scale_on(
    name: str,
    source: str | None = None,
    seeds: int | None = None,
    copies: int | None = None,
    draws: int | None = None,
    most_seeds: int | None = None,
) -> Scale:
    """The scale of this name, with another data set, or other numbers, where given. Raises ValueError.

    A number of seeds is kept to, whatever can be decided by it.
    """
    least = {
        "seeds": (seeds, 1),
        "copies": (copies, 2),
        "draws": (draws, 1),
        "most_seeds": (most_seeds, 2),
    }
    for option, (number, fewest) in least.items():
        if number is not None and number < fewest:
            name_of = option.replace("_", "-")
            raise ValueError(f"--{name_of}: {number} is too small; give {fewest} or more")
    scale = SCALES[name]
    data = replace(scale.data, source=source) if source else scale.data
    numbers: dict[str, Any] = {
        option: number for option, (number, _) in least.items() if number is not None
    }
    power = None if seeds else scale.power
    return replace(scale, data=data, power=power, **numbers)
