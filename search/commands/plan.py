"""A study that fits the images and the time: sizes of networks, length of trainings, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search.commands.first_look import CUT, Look
from search.report.amounts import time_text

SMALL = 64  # pixels of a side, up to which networks for CIFAR suit
SIDES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
MOST, TRIED = (
    160,
    3,
)  # pixels of photos' largest side, and how many sides are tried; larger ones take long
BATCHES = (16, 32, 64, 128, 256)
STEPS = 20  # of an epoch, at least: the batch is chosen for it
EPOCHS = ((2_000, 60), (20_000, 40))  # with fewer images than these, so many; else the last
MANY_IMAGES = 30
TRIALS, MOST_TRIALS = 24, 60
FEWEST_EPOCHS = 3
FINE_TUNED = 15  # epochs from published weights, however many images there are
SHORT = 3  # a trial from a baseline takes the epochs over this
OVERHEAD = 1.5  # measuring operating points and starting, over training
VALIDATION_IMAGES = 400  # where 90 % are right, the interval is then 3 points to either side
LEAST_VALIDATION, MOST_VALIDATION = 0.1, 0.25


@dataclass(frozen=True)
class Networks:
    """What a study can search: a family, sizes of it, and the largest size as values of its dimensions.

    `published` is the model whose published weights they start from; empty where they start from random ones.
    """

    family: str
    space: Mapping[str, Any]
    largest: Mapping[str, Any]
    sizes: int
    published: str = ""


def _resnets(backbones: list[str], widths: list[float]) -> Networks:
    space = {"backbone": backbones, "width": widths}
    largest = {"backbone": backbones[-1], "width": widths[-1]}
    return Networks("gated_resnet", space, largest, len(backbones) * len(widths))


def _mobilenets(widths: list[float]) -> Networks:
    return Networks("gated_mobilenet", {"width": widths}, {"width": widths[-1]}, len(widths))


def _published(backbone: str) -> Networks:
    """A model with published weights, under the recipe of studies/pretrained.yml."""
    space = {"backbone": backbone, "pretrained": True, "dynamics": "both", **FINE_TUNING}
    largest = {"backbone": backbone, "dynamics": "both"}
    return Networks("timm", space, largest, 1, published=backbone)


FINE_TUNING = {
    "crop": "resized",
    "label_smoothing": 0.1,
    "gate_lr_mult": 10.0,
    "head_lr_mult": 10.0,
    "ema": 0.99,
    "distill": [0.0, 0.5],
}
# the cheapest first
FOR_PHOTOS = (_published("mobilenetv2_050"), _published("mobilenetv2_100"), _published("efficientnet_b0"))  # fmt: skip
FOR_SMALL_IMAGES = (
    _resnets(["resnet8"], [0.25, 0.5]),
    _resnets(["resnet8", "resnet14"], [0.25, 0.5]),
    _resnets(["resnet8", "resnet14"], [0.5, 1.0]),
    _resnets(["resnet8", "resnet14", "resnet20"], [1.0]),
    _resnets(["resnet14", "resnet20", "resnet32"], [1.0]),
)
FOR_LARGE_IMAGES = (
    _mobilenets([0.25, 0.35]),
    _mobilenets([0.25, 0.35, 0.5]),
    _mobilenets([0.35, 0.5, 0.75]),
    _mobilenets([0.5, 0.75, 1.0]),
)

# whether the published weights of a model can be had here
Weights = Callable[[str], bool]
# seconds of an epoch of the largest network at this side and batch
Speed = Callable[[Networks, int, int], float]


@dataclass(frozen=True)
class Plan:
    """What a study file says, and `tight` where even the smallest networks have little time."""

    look: Look
    networks: Networks
    sides: tuple[int, ...]  # of the images, ascending: several are searched
    batch: int
    trials: int
    epochs: int
    short: int
    hours: float
    validation: float
    tight: bool
    no_weights: bool = False  # photos, but no published weights can be had

    @property
    def side(self) -> int:
        """The largest."""
        return self.sides[-1]

    @property
    def resize(self) -> str:
        """All of an image, where the largest square would leave out much of it."""
        return "pad" if self.look.aspect >= CUT else "crop"


def plan(look: Look, hours: float, speed: Speed, weights: Weights = lambda _: False) -> Plan:
    """The most accurate networks whose study ends within the hours; for photos, with published weights if possible."""
    sides, batch, wanted = sides_of(look), batch_of(look), epochs_of(look)
    small = sides[-1] <= SMALL
    photos = not small and not look.gray
    choices: tuple[Networks, ...] = FOR_SMALL_IMAGES if small else FOR_LARGE_IMAGES
    known = tuple(one for one in FOR_PHOTOS if weights(one.published)) if photos else ()
    if known:
        choices, wanted = known, FINE_TUNED
    chosen, possible = choices[0], 0.0
    for networks in choices:
        affordable = _affordable(hours, networks, speed(networks, sides[-1], batch), sides)
        if affordable < wanted and possible:
            break
        chosen, possible = networks, affordable
        if affordable < wanted:
            break
    epochs = max(FEWEST_EPOCHS, min(wanted, int(possible)))
    return Plan(
        look=look,
        networks=chosen,
        sides=sides,
        batch=batch,
        trials=min(MOST_TRIALS, max(TRIALS, int(TRIALS * possible / wanted))),
        epochs=epochs,
        short=max(1, round(epochs / SHORT)),
        hours=hours,
        validation=_validation(look),
        tight=possible < wanted / 2,
        no_weights=photos and not known,
    )


def reasons(found: Plan) -> list[str]:
    """What was found and why the file says what it says, a line each."""
    images, networks = found.look, found.networks
    sizes = "all of one size" if images.one_size else "of several sizes"
    lines = [
        f"{images.images:,} images in {len(images.counts)} classes, {'gray' if images.gray else 'RGB'}, {sizes}, "
        f"shorter side {images.side} pixels",
        *images.notes,
        f"image_size: {sides_text(found)}: {_side_reason(found)}",
        f"families: {networks.family}: "
        + _family_reason(found),
        f"batch: {found.batch}: at least {STEPS} steps an epoch, where there are enough images",
        f"{found.trials} trials, {found.epochs} epochs, {found.short} from a baseline: about what fits into "
        f"{time_text(3600 * found.hours)} here",
    ]  # fmt: skip
    if found.no_weights:
        lines.append(
            "published weights are not on this machine and cannot be downloaded, so networks start from random ones; "
            "with them, photos need far fewer images: see studies/pretrained.yml"
        )
    if found.tight:
        lines.append(
            "that is short for so many images: give more --hours, or a smaller image_size or train_limit"
        )
    if found.resize == "pad":
        lines.append(
            f"resize: pad: one side is {images.aspect:.1f} times the other, a square would cut too much off"
        )
    if images.uneven:
        few, many = min(images.counts.values()), max(images.counts.values())
        lines.append(f"class_weights: balanced: the classes have {few:,} to {many:,} images")
    if not images.has_test:
        lines.append("test: 0.2: there are no test images, so a share is left for export")
    if images.broken:
        count = "1 image" if images.broken == 1 else f"{images.broken:,} images"
        lines.append(f"skip_broken: true: {count} cannot be decoded")
    return lines


def _family_reason(found: Plan) -> str:
    if found.networks.published:
        return f"{found.networks.published} with its published weights, which know photos already"
    if found.side <= SMALL:
        return "ResNets for small images"
    return "MobileNets cost least on large images"


def _side_reason(found: Plan) -> str:
    if len(found.sides) > 1:
        return "the smallest that is accurate enough is found by the search: half the side costs a fourth"
    if found.look.one_size == (found.side, found.side):
        return "as the images are"
    return "the nearest usual size that is not above the images' own"


def sides_text(found: Plan) -> str:
    """The sides as a study file has them."""
    return str(found.side if len(found.sides) == 1 else list(found.sides))


def sides_of(look: Look) -> tuple[int, ...]:
    """Of small images their own side, of photos the largest usual ones that are not above their own."""
    if (own := side_of(look)) <= SMALL:
        return (own,)
    return tuple(side for side in SIDES if SMALL <= side <= min(own, MOST))[-TRIED:]


def side_of(look: Look) -> int:
    """The nearest usual side that is not above the images' own."""
    own = min(look.one_size) if look.one_size else look.side
    if look.one_size and own <= SMALL and look.one_size[0] == look.one_size[1]:
        return own
    return max((side for side in SIDES if side <= own), default=max(4, own))


def batch_of(look: Look) -> int:
    """The largest batch that leaves so many steps an epoch."""
    return max((one for one in BATCHES if one * STEPS <= look.images), default=BATCHES[0])


def epochs_of(look: Look) -> int:
    """Epochs of a full training: the fewer images, the more."""
    return next((epochs for most, epochs in EPOCHS if look.images < most), MANY_IMAGES)


def _affordable(
    hours: float, networks: Networks, epoch_seconds: float, sides: tuple[int, ...]
) -> float:
    """Epochs of a full training with which baselines of all sizes and short trials fit into the hours.

    `epoch_seconds` are those at the largest side; time goes with the number of pixels.
    """
    pixels = [(side / sides[-1]) ** 2 for side in sides]
    trainings = networks.sizes * sum(pixels) + TRIALS / SHORT * sum(pixels) / len(pixels)
    return 3600 * hours / (OVERHEAD * epoch_seconds * trainings)


def _validation(look: Look) -> float:
    left = look.images if look.has_test else 0.8 * look.images
    share = round(VALIDATION_IMAGES / left + 0.005, 2)
    return min(MOST_VALIDATION, max(LEAST_VALIDATION, share))
