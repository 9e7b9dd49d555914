"""A study that fits the images and the time: sizes of networks, length of trainings, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from search.commands.first_look import CUT, Look
from search.commands.plan_networks import (
    FOR_LARGE_IMAGES,
    FOR_PHOTOS,
    FOR_SMALL_IMAGES,
    Networks,
)
from search.report.amounts import time_text

SMALL = 64  # pixels of a side, up to which networks for CIFAR suit
SIDES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
MOST, TRIED = 160, 3  # pixels of photos' largest side; sides that are tried; larger ones take long
ENLARGED = 96  # pixels that small images get where a network was trained on photos
BATCHES = (16, 32, 64, 128, 256)
STEPS = 20  # of an epoch, at least: the batch is chosen for it
EPOCHS = ((2_000, 60), (20_000, 40))  # with fewer images than these, so many; else the last
MANY_IMAGES = 30
TRIALS, MOST_TRIALS = 24, 60
FEWEST_EPOCHS = 3
FINE_TUNED = 15  # epochs from trained weights, however many images there are
FROZEN_TRIALS, FROZEN_EPOCHS = 60, 40  # of exits on features, each a matter of seconds
FEATURES = 0.7  # computing features of two views, over an epoch of training
SHORT = 3  # a trial from a baseline takes the epochs over this
OVERHEAD = 1.5  # measuring operating points and starting, over training
VALIDATION_IMAGES = 400  # where 90 % are right, the interval is then 3 points to either side
LEAST_VALIDATION, MOST_VALIDATION = 0.1, 0.25


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
    left_out: tuple[int, ...] = ()  # sides for which the time is too short

    @property
    def side(self) -> int:
        """The largest."""
        return self.sides[-1]

    @property
    def resize(self) -> str:
        """All of an image, where the largest square would leave out much of it."""
        return "pad" if self.look.aspect >= CUT else "crop"


def plan(
    look: Look,
    hours: float,
    speed: Speed,
    weights: Weights = lambda _: False,
    start: Networks | None = None,
) -> Plan:
    """The most accurate networks whose study ends within the hours; for photos, with published weights if possible.

    With `start` these networks, whatever the images are. Where the time is short for fine-tuning, trained weights stay
    as they are, and exits alone are trained.
    """
    sides = sides_of(look, enlarged=start is not None)
    batch, wanted = batch_of(look), epochs_of(look)
    small = sides[-1] <= SMALL
    photos = not small and not look.gray
    choices: tuple[Networks, ...] = FOR_SMALL_IMAGES if small else FOR_LARGE_IMAGES
    known = tuple(one for one in FOR_PHOTOS if weights(one.trained)) if photos else ()
    if start is not None or known:
        choices, wanted = known if start is None else (start,), FINE_TUNED
    chosen, possible = _most_accurate(choices, wanted, hours, sides, batch, speed)
    epochs = max(FEWEST_EPOCHS, min(wanted, int(possible)))
    found = Plan(
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
        no_weights=photos and start is None and not known,
    )
    if chosen.trained and found.tight:
        return _frozen(found, speed)
    return found


def _most_accurate(
    choices: tuple[Networks, ...],
    wanted: int,
    hours: float,
    sides: tuple[int, ...],
    batch: int,
    speed: Speed,
) -> tuple[Networks, float]:
    """(the last of the choices that can be trained for as many epochs as wanted, for how many it can)."""
    chosen, possible = choices[0], 0.0
    for networks in choices:
        affordable = _affordable(hours, networks, speed(networks, sides[-1], batch), sides)
        if affordable < wanted and possible:
            break
        chosen, possible = networks, affordable
        if affordable < wanted:
            break
    return chosen, possible


def _frozen(found: Plan, speed: Speed) -> Plan:
    """The same study with a frozen trunk, and without the largest images while their features take over half the time.

    The time is short where those of the smallest do.
    """
    epoch = FEATURES * speed(found.networks, found.side, found.batch)

    def too_long(sides: tuple[int, ...]) -> bool:
        pixels = sum((side / found.side) ** 2 for side in sides)
        return epoch * pixels > 3600 * found.hours / 2

    sides = found.sides
    while len(sides) > 1 and too_long(sides):
        sides = sides[:-1]
    return replace(
        found,
        networks=found.networks.with_frozen_trunk(),
        sides=sides,
        left_out=found.sides[len(sides) :],
        trials=FROZEN_TRIALS,
        epochs=FROZEN_EPOCHS,
        short=0,
        tight=too_long(sides),
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
        f"{found.trials} trials, {_epochs_reason(found)}",
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


def _epochs_reason(found: Plan) -> str:
    if found.networks.frozen:
        return f"{found.epochs} epochs: of exits on features that are computed once, seconds each"
    hours = time_text(3600 * found.hours)
    return (
        f"{found.epochs} epochs, {found.short} from a baseline: about what fits into {hours} here"
    )


def _family_reason(found: Plan) -> str:
    networks = found.networks
    if networks.trained:
        whose = (
            f"the weights in {networks.weights}" if networks.weights else "its published weights"
        )
        said = f"{networks.trained} with {whose}, which know photos already"
        if networks.frozen:
            said += "; they stay as they are, since the time is short for fine-tuning, and exits are trained"
        return said
    if found.side <= SMALL:
        return "ResNets for small images"
    return "MobileNets cost least on large images"


def _side_reason(found: Plan) -> str:
    if found.left_out:
        larger = " and ".join(map(str, found.left_out))
        return f"of {larger} pixels, computing features alone would take over half of the time"
    if found.side > max(side_of(found.look), found.look.side):
        return "larger than the images, since such a network knows larger ones"
    if len(found.sides) > 1:
        return "the smallest that is accurate enough is found by the search: half the side costs a fourth"
    if found.look.one_size == (found.side, found.side):
        return "as the images are"
    return "the nearest usual size that is not above the images' own"


def sides_text(found: Plan) -> str:
    """The sides as a study file has them."""
    return str(found.side if len(found.sides) == 1 else list(found.sides))


def sides_of(look: Look, enlarged: bool = False) -> tuple[int, ...]:
    """Of small images their own side, of photos the largest usual ones that are not above their own.

    `enlarged`: small images become as large as networks for photos need them.
    """
    if (own := side_of(look)) <= SMALL and not enlarged:
        return (own,)
    most = max(ENLARGED, min(own, MOST)) if enlarged else min(own, MOST)
    return tuple(side for side in SIDES if SMALL <= side <= most)[-TRIED:]


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
