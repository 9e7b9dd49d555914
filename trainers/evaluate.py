"""What a network answers and costs, image by image, under given run-time knobs.

Shapes: P passes (1 unless stochastic), N images, B images of a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet, Output
from spaces.contract.recipe import Recipe
from spaces.contract.units import Ran
from trainers.answers import TOP, Answers
from trainers.data.augment import normalized
from trainers.data.recipe_augment import changed
from trainers.data.splits import Batch, ImageData, Split
from trainers.execution import Execution
from trainers.trunk import baseline_norms

BATCH = 512
MOST_PIXELS = 2**18  # of a batch on a CPU: what a network makes of more leaves the caches


@dataclass(frozen=True)
class Table:
    """Per pass and image: the answer, and how many MACs it took; per gate unit: its open rate.

    `ran` is what decided which units each image ran, pass after pass. `cross_entropy` is that of the answers with the
    labels, mean over images and passes; None where nobody computed it.
    """

    answers: Answers
    macs_PN: Tensor
    rates: dict[str, tuple[float, ...]]
    ran: Ran | None = None
    cross_entropy: float | None = None

    @property
    def correct_PN(self) -> Tensor:
        """Whether the answer is right."""
        return torch.from_numpy(self.answers.right_PN)

    @property
    def accuracy(self) -> float:
        """Top-1, mean over passes."""
        return float(self.correct_PN.double().mean())

    @property
    def macs_mean(self) -> float:
        return float(self.macs_PN.mean())

    @property
    def macs_p95(self) -> float:
        """95th percentile over images: the smallest cost that 95 % of them stay within."""
        return float(torch.quantile(self.macs_PN.flatten(), 0.95, interpolation="higher"))

    @property
    def macs_max(self) -> float:
        return float(self.macs_PN.max())


def top_answers(logits_BC: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) the likeliest class of each image, and whether its label is among the five likeliest."""
    likeliest = logits_BC.topk(min(TOP, logits_BC.shape[1]), 1).indices
    return logits_BC.argmax(1), (likeliest == labels_B[:, None]).any(1)


def answers_of(
    classes: Sequence[Tensor], top5: Sequence[Tensor], labels_N: Tensor, passes: int = 1
) -> Answers:
    """The answers of all batches, pass after pass."""
    classes_PN, top5_PN = (
        torch.cat(list(some)).view(passes, -1).cpu().numpy() for some in (classes, top5)
    )
    return Answers(classes_PN, top5_PN, labels_N.cpu().numpy())


@torch.inference_mode()
def evaluate(
    net: DynamicNet,
    split: Split,
    data: ImageData,
    knobs: Knobs,
    *,
    execution: Execution | None = None,
    rates: Rates | None = None,
    seed: int = 0,
    compact: bool = False,
) -> Table:
    """Run every image of a split through the network (put in eval mode) under the knobs.

    A stochastic policy or an arbitrary order takes `knobs.passes` passes over the split, and each batch has an order of
    its own; an ensemble is one pass.
    """
    execution = execution or Execution()
    net.eval()
    passes = knobs.passes if knobs.policy == "stochastic" or knobs.order == "arbitrary" else 1
    classes: list[Tensor] = []
    top5: list[Tensor] = []
    macs: list[Tensor] = []
    losses: list[Tensor] = []
    counts: dict[str, Tensor] = {}
    ran: list[Ran] = []
    images_seen = 0
    forward_pass = count()
    for number in range(passes):

        def run(inputs: Tensor, ids: Tensor, number: int = number) -> Output:
            step = next(forward_pass) if knobs.order == "arbitrary" else number
            return net.run(
                inputs, knobs, ids=ids, rates=rates, seed=seed, step=step, compact=compact
            )

        for batch, output in outputs(run, split, data, execution):
            answer_B, top5_B = top_answers(output.logits_BC, batch.labels)
            classes.append(answer_B)
            top5.append(top5_B)
            losses.append(F.cross_entropy(output.logits_BC.float(), batch.labels, reduction="none"))
            macs.append(output.macs_B.expand(len(batch.labels)))
            ran.append(Ran.of(output))
            for decision in output.decisions:
                opened = decision.open_BU.double().expand(len(batch.labels), -1).sum(0)
                name = decision.gate.name
                counts[name] = counts[name] + opened if name in counts else opened
            images_seen += len(batch.labels)
    found = {name: tuple((total / images_seen).tolist()) for name, total in counts.items()}
    answers = answers_of(classes, top5, split.labels, passes)
    macs_PN, loss = torch.cat(macs).view(passes, -1).cpu(), float(torch.cat(losses).double().mean())
    return Table(answers, macs_PN, found, Ran.joined(ran), loss)


def batch_size(split: Split, data: ImageData, execution: Execution) -> int:
    """How many images are evaluated at a time.

    On a CPU an EfficientNet-Lite0 takes 2.7 times as long for 256 images of 128 x 128 pixels at a time as for 16.
    """
    if execution.device != "cpu" or split.of_features:
        return BATCH
    return within_caches(BATCH, data.height, data.width)


def within_caches(most: int, height: int, width: int) -> int:
    """How many images of so many pixels a CPU computes at a time, at most `most`."""
    return max(1, min(most, MOST_PIXELS // (height * width)))


def outputs(
    run: Callable[..., Output], split: Split, data: ImageData, execution: Execution
) -> Iterator[tuple[Batch, Output]]:
    """Each batch of the split, and what `run` makes of its images (or rows of features) and ids."""
    size = batch_size(split, data, execution)
    for batch in split.batches(size, device=execution.device):
        inputs = network_inputs(batch.images, data, execution)
        with execution.autocast():
            output = run(inputs, ids=batch.ids)
        yield batch, output


def network_inputs(images: Tensor, data: ImageData, execution: Execution) -> Tensor:
    """Images (uint8) as networks take them; rows of features (float) stand for images as they are."""
    if images.is_floating_point():
        return images
    return execution.laid_out(normalized(images, data.mean, data.std))


def refreshed_norms(net: DynamicNet, recipe: Recipe) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch norms whose statistics follow the images in training: not those of a frozen trunk, nor any of the
    baseline where the recipe says freeze_norm. The network is left in eval mode.
    """
    net.train()
    kept = set(baseline_norms(net)) if recipe.freeze_norm else set()
    every = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    found = [norm for norm in every if norm.training and norm not in kept]
    net.eval()
    return found


@torch.no_grad()
def recalibrated(
    net: DynamicNet,
    data: ImageData,
    knobs: Knobs,
    recipe: Recipe,
    *,
    execution: Execution | None = None,
    rates: Rates | None = None,
    seed: int = 0,
) -> DynamicNet:
    """A copy of the network with batch-norm statistics of `knobs.recalibration_batches` training batches.

    A batch has `knobs.recalibration_images` images, else as many as in training. Averages are cumulative, parameters
    untouched. Shapes and colours of images are changed as the training's recipe says; none is mixed or erased. Gates
    decide as the knobs say ("same") or are drawn as in training ("sample"). What kept its statistics in training keeps
    them.
    """
    execution = execution or Execution()
    net = copy.deepcopy(net)
    norms = refreshed_norms(net, recipe)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    used = Knobs(policy="stochastic") if knobs.recalibrate == "sample" else knobs
    for step, images, ids in _training_batches(
        data,
        knobs.recalibration_images or recipe.batch,
        knobs.recalibration_batches,
        execution,
        seed,
    ):
        images = changed(images, recipe, seed=seed, step=step, flip=data.flip, size=data.size)
        pixels = execution.laid_out(normalized(images, data.mean, data.std))
        net.run(pixels, used, ids=ids, rates=rates, seed=seed, step=step)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval()


def _training_batches(
    data: ImageData, batch: int, count: int, execution: Execution, seed: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    batch, step, epoch = min(batch, len(data.train)), 0, 0
    while step < count:
        for one in data.train.batches(
            batch, device=execution.device, shuffle=seed + epoch, drop_last=True
        ):
            if step == count:
                return
            yield step, one.images, one.ids
            step += 1
        epoch += 1


def mean_rates(rates: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
    """Open rate of each gate, mean over its units."""
    return {name: sum(units) / len(units) for name, units in rates.items()}
