"""How a candidate is trained, as dimensions beside those of its architecture."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.contract.space import choice, flag, real


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimiser, schedule and regularisation of one training.

    Fractions are of the whole training, so that a recipe means the same at any number of epochs. `epochs` comes
    from the study's budget and is not searched.
    """

    epochs: int = 30
    optimizer: str = choice(
        "sgd", "adamw", default="sgd", searched=False, doc="SGD with Nesterov momentum, or AdamW"
    )
    lr: float = real(
        0.01,
        0.3,
        default=0.1,
        log=True,
        when={"optimizer": ("sgd",)},
        doc="peak learning rate of SGD",
    )
    adamw_lr: float = real(
        1e-4,
        1e-2,
        default=1e-3,
        log=True,
        when={"optimizer": ("adamw",)},
        doc="peak learning rate of AdamW",
    )
    momentum: float = real(
        0.5,
        0.99,
        default=0.9,
        when={"optimizer": ("sgd",)},
        searched=False,
        doc="Nesterov momentum",
    )
    weight_decay: float = real(
        1e-5, 1e-2, default=5e-4, log=True, doc="of weights; never of biases and norms"
    )
    batch: int = choice(16, 32, 64, 128, 256, 512, default=128, searched=False, doc="images a step")
    lr_schedule: str = choice(
        "cosine",
        "multistep",
        default="cosine",
        searched=False,
        doc="multistep: x0.1 at 1/2, 3/4 and 15/16",
    )
    warmup: float = real(
        0.0,
        0.3,
        default=0.05,
        searched=False,
        doc="fraction of the training with rising learning rate",
    )
    label_smoothing: float = real(0.0, 0.3, default=0.0, searched=False, doc="of the cross-entropy")
    gate_decay: bool = flag(default=False, searched=False, doc="weight decay on gates too")
    gate_lr_mult: float = real(
        0.1,
        10.0,
        default=1.0,
        log=True,
        searched=False,
        doc="learning rate of gates over that of weights",
    )
    clip: float = real(
        0.0, 100.0, default=0.0, searched=False, doc="largest gradient norm; 0 clips nothing"
    )
    augment: bool = flag(
        default=True, searched=False, doc="pad-crop, and flip where the data set allows it"
    )

    @property
    def peak_lr(self) -> float:
        return self.lr if self.optimizer == "sgd" else self.adamw_lr


@dataclass(frozen=True, kw_only=True)
class TransformerRecipe(Recipe):
    """A recipe with the defaults that transformers want: AdamW, a longer warm-up, clipped gradients."""

    optimizer: str = choice(
        "sgd", "adamw", default="adamw", searched=False, doc="SGD with Nesterov momentum, or AdamW"
    )
    weight_decay: float = real(
        1e-5, 1e-1, default=1e-2, log=True, doc="of weights; never of biases and norms"
    )
    warmup: float = real(
        0.0,
        0.3,
        default=0.1,
        searched=False,
        doc="fraction of the training with rising learning rate",
    )
    clip: float = real(
        0.0, 100.0, default=1.0, searched=False, doc="largest gradient norm; 0 clips nothing"
    )
