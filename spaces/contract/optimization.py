"""Optimiser, schedule and regularisation of a training, as dimensions: the part of a recipe that every training has.

Trained weights want rates a tenth to a hundredth of those that random ones do: Kornblith, Shlens and Le, "Do Better
ImageNet Models Transfer Better?", CVPR, 2019, search 1e-4 to 1e-1 for SGD, of which small batches want the lower part;
transformers are fine-tuned with AdamW at 1e-5 to 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass

from spaces.contract.space import (
    BELOW_ONE,
    SHARE,
    WEIGHT,
    choice,
    flag,
    one_of,
    real,
    whole_from,
)

RATES = (1e-8, 100.0)  # that a study file may name
# the 200, 300 and 375 of 400 epochs that gated ResNets are published with
MILESTONES = "0.5+0.75+0.9375"


def milestones(text: str, epochs: int = 1, start: int = 0) -> tuple[float, ...]:
    """The fractions of a schedule that a text names: such as "0.5+0.75", or as epochs, "75+130+180".

    The schedule is of a training of so many epochs, behind its first `start`. Raises ValueError.
    """
    try:
        found = tuple(float(part) for part in text.split("+"))
    except ValueError:
        found = ()
    rising = bool(found) and list(found) == sorted(set(found))
    if rising and found[0] >= 1 and all(one.is_integer() for one in found):
        return tuple((one - start) / (epochs - start) for one in found)
    if not rising or not 0 < found[0] <= found[-1] < 1:
        raise ValueError(
            f"{text} is no rising list of fractions of the training, or of epochs; write 0.5+0.75, or 75+130+180"
        )
    return found


def last_epoch(text: str) -> float:
    """The last of the milestones that are given as epochs; less than 1 where they are fractions."""
    return milestones(text)[-1]


def milestones_text(text: str) -> str:
    """The text, if `milestones` can read it. Raises ValueError."""
    milestones(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """Optimiser, schedule and regularisation of one training.

    Fractions are of the whole training, so that a recipe means the same at any number of epochs. `epochs` comes
    from the study's budget and is not searched.
    """

    epochs: int = 30
    optimizer: str = choice(
        "sgd",
        "adamw",
        default="sgd",
        accepts=one_of("sgd", "adamw", "adam"),
        searched=False,
        doc="SGD with momentum, AdamW, or adam: with the weight decay in the gradient",
    )
    lr: float = real(
        0.01,
        0.3,
        default=0.1,
        log=True,
        within=RATES,
        tuned={"low": 1e-4, "high": 3e-2, "default": 3e-3},
        when={"optimizer": ("sgd",)},
        doc="peak learning rate of SGD",
    )
    adamw_lr: float = real(
        1e-4,
        1e-2,
        default=1e-3,
        log=True,
        within=RATES,
        tuned={"low": 1e-5, "high": 1e-3, "default": 1e-4},
        when={"optimizer": ("adamw", "adam")},
        doc="peak learning rate of AdamW and Adam",
    )
    adam_epsilon: float = real(
        1e-8,
        1e-6,
        default=1e-8,
        log=True,
        within=(1e-12, 1.0),
        when={"optimizer": ("adamw", "adam")},
        searched=False,
        later=True,
        doc="what AdamW and Adam add to the root of the second moment",
    )
    momentum: float = real(
        0.5,
        0.99,
        default=0.9,
        within=BELOW_ONE,
        when={"optimizer": ("sgd",)},
        searched=False,
        doc="of SGD; 0 has none",
    )
    nesterov: bool = flag(
        default=True,
        when={"optimizer": ("sgd",)},
        searched=False,
        later=True,
        doc="Nesterov's form of momentum",
    )
    weight_decay: float = real(
        1e-5,
        1e-2,
        default=5e-4,
        log=True,
        within=SHARE,
        doc="of weights; of biases and norms where norm_decay says so",
    )
    norm_decay: bool = flag(
        default=False, searched=False, later=True, doc="weight decay on biases and norms too"
    )
    batch: int = choice(
        16,
        32,
        64,
        128,
        256,
        512,
        default=128,
        accepts=whole_from(2, 65536),
        searched=False,
        doc="images a step",
    )
    lr_schedule: str = choice(
        "cosine",
        "multistep",
        default="cosine",
        searched=False,
        doc="multistep: x0.1 at each milestone",
    )
    lr_milestones: str = choice(
        MILESTONES,
        accepts=milestones_text,
        when={"lr_schedule": ("multistep",)},
        searched=False,
        later=True,
        doc="fractions of the training, such as 0.3+0.6+0.8, or epochs, such as 75+130+180",
    )
    warmup: float = real(
        0.0,
        0.3,
        default=0.05,
        within=BELOW_ONE,
        searched=False,
        doc="fraction of the training with rising learning rate",
    )
    label_smoothing: float = real(
        0.0, 0.3, default=0.0, within=BELOW_ONE, searched=False, doc="of the cross-entropy"
    )
    gate_decay: bool = flag(default=False, searched=False, doc="weight decay on gates too")
    gate_lr_mult: float = real(
        0.1,
        10.0,
        default=1.0,
        log=True,
        within=WEIGHT,
        searched=False,
        doc="learning rate of gates over that of weights",
    )
    clip: float = real(
        0.0,
        100.0,
        default=0.0,
        within=WEIGHT,
        searched=False,
        doc="largest gradient norm; 0 clips nothing",
    )
    augment: bool = flag(
        default=True, searched=False, doc="pad-crop, and flip where the data set allows it"
    )

    @property
    def peak_lr(self) -> float:
        return self.lr if self.optimizer == "sgd" else self.adamw_lr
