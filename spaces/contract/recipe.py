"""How a candidate is trained, as dimensions beside those of its architecture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from spaces.contract.optimization import Optimization
from spaces.contract.space import (
    BELOW_ONE,
    PART,
    SHARE,
    WARMTH,
    WEIGHT,
    choice,
    flag,
    one_of,
    real,
    whole,
)

PRETRAINED = "pretrained"  # the dimension of a family that loads published weights
MIXES = (0.0, 100.0)  # alphas that a study file may name
_choice, _flag = (
    partial(choice, searched=False, later=True),
    partial(flag, searched=False, later=True),
)
_real, _whole = (
    partial(real, searched=False, later=True),
    partial(whole, searched=False, later=True),
)
_augmented = {"augment": (True,)}
# dimensions that say how a training image is changed each time that it is read
CHANGES_OF_IMAGES = frozenset(
    {"crop", "shift_border", "auto_augment", "erasing", "mixup", "cutmix"}
)


@dataclass(frozen=True, kw_only=True)
class Recipe(Optimization):
    """All of one training: how it changes images, what of trained weights learns, and what is handed over."""

    crop: str = _choice(
        "shift", "resized", when=_augmented,
        doc="images shifted by up to an eighth, or a random part of each resized",
    )  # fmt: skip
    shift_border: str = _choice(
        "reflect", "zero", when={"crop": ("shift",)},
        doc="what comes in where an image is shifted: its own reflection, or black",
    )  # fmt: skip
    crop_least: float = _real(
        0.08, 1.0, default=0.35, within=PART, when={"crop": ("resized",)},
        doc="least share of the area that such a part has",
    )  # fmt: skip
    auto_augment: str = _choice(
        "none", "rand", "trivial", "auto", when=_augmented,
        doc="RandAugment, TrivialAugment, or AutoAugment's policy for CIFAR: shapes and colours changed",
    )  # fmt: skip
    rand_operations: int = _whole(
        1, 3, default=2, within=(1, 14), when={"auto_augment": ("rand",)}, doc="operations on an image"
    )  # fmt: skip
    rand_magnitude: int = _whole(
        1, 30, default=9, within=(0, 30), when={"auto_augment": ("rand",)}, doc="strength of the operations"
    )  # fmt: skip
    erasing: float = _real(
        0.0, 0.5, default=0.0, within=SHARE, when=_augmented,
        doc="share of images in which a rectangle is erased",
    )  # fmt: skip
    mixup: float = _real(
        0.0, 1.0, default=0.0, within=MIXES, when=_augmented,
        doc="alpha of mixup: images blended in pairs, with their labels; 0 blends none",
    )  # fmt: skip
    cutmix: float = _real(
        0.0, 1.0, default=0.0, within=MIXES, when=_augmented,
        doc="alpha of cutmix: a rectangle from another image, labels by area; 0 cuts none",
    )  # fmt: skip
    head_lr_mult: float = _real(
        0.1, 100.0, default=1.0, log=True, within=WEIGHT,
        doc="learning rate of classifiers and exits over that of weights",
    )  # fmt: skip
    layer_decay: float = _real(
        0.5, 1.0, default=1.0, within=PART, doc="learning rate of a layer over that of the next deeper one"
    )  # fmt: skip
    head_epochs: int = _whole(
        0, 5, default=0, within=(0, 100_000),
        doc="first epochs in which classifiers, exits and gates alone learn",
    )  # fmt: skip
    freeze_norm: bool = _flag(default=False, doc="batch norms of the baseline stay as they are")
    ema: float = _real(
        0.0, 0.9999, default=0.0, within=BELOW_ONE,
        doc="memory of a moving average of the weights, which is then measured; 0 has none",
    )  # fmt: skip
    kept_epoch: str = _choice(
        "last", "best", "least_cross_entropy",
        doc="whose weights are measured and exported: the last epoch's, or on validation the most accurate one's or "
        "that of least cross-entropy",
    )  # fmt: skip
    distill: float = _real(
        0.0, 1.0, default=0.0, within=SHARE,
        doc="share of the cross-entropy that is distillation from the baseline; 0 has none",
    )  # fmt: skip
    distill_temperature: float = _real(
        1.0, 8.0, default=4.0, within=WARMTH, doc="of distillation from the baseline"
    )  # fmt: skip
    micro_batch: int = _whole(
        0, 512, default=0, within=(0, 65536),
        doc="images in memory at once, gradients of a batch add up; 0: the whole batch",
    )  # fmt: skip

    @property
    def first_epochs(self) -> int:
        """Epochs in which heads learn alone, before the schedule of the learning rate begins."""
        return min(self.head_epochs, self.epochs - 1)


@dataclass(frozen=True, kw_only=True)
class TransformerRecipe(Recipe):
    """A recipe with the defaults that transformers want: AdamW, a longer warm-up, clipped gradients."""

    optimizer: str = choice(
        "sgd",
        "adamw",
        default="adamw",
        accepts=one_of("sgd", "adamw", "adam"),
        searched=False,
        doc="SGD with momentum, AdamW, or adam: with the weight decay in the gradient",
    )
    weight_decay: float = real(
        1e-5,
        1e-1,
        default=1e-2,
        log=True,
        within=SHARE,
        doc="of weights; of biases and norms where norm_decay says so",
    )
    warmup: float = real(
        0.0,
        0.3,
        default=0.1,
        within=BELOW_ONE,
        searched=False,
        doc="fraction of the training with rising learning rate",
    )
    clip: float = real(
        0.0,
        100.0,
        default=1.0,
        within=WEIGHT,
        searched=False,
        doc="largest gradient norm; 0 clips nothing",
    )
