"""One pass of a trained network over images of validation, with all that an inspection needs of it kept.

Shapes: N images, B images of a batch, C channels, H x W pixels, J sources of a mixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet, Output
from spaces.contract.policies import Gate
from trainers.data.splits import Batch, ImageData, Split
from trainers.evaluate import network_inputs
from trainers.execution import Execution

BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured: images measured, images run in many orders of layers, images shown and their side."""

    images: int = 1000
    moved: int = 256
    shown: int = 8  # cheapest, and as many most expensive
    samples: int = 8  # under which attention is shown
    side: int = 96
    umap: bool = True


# beside a search: seconds at most
QUICK = Effort(images=512, moved=64, shown=6, samples=5, side=32, umap=False)


@dataclass(frozen=True)
class ForwardPass:
    """One pass: each image's class, answer, MACs, gates and exit; the images themselves, small, and some large."""

    label_N: Tensor
    answer_N: Tensor
    macs_N: Tensor
    gates: dict[str, Tensor]  # (N,) by column
    layers: list[str]  # the columns that are gates of whole layers
    mixtures: list[Tensor]  # (N, J) a layer
    exit_N: Tensor | None
    exit_answers: list[Tensor]  # (N,) an exit, the deepest last
    exit_macs: list[Tensor]
    small: Tensor  # (N, C, h, w) uint8
    first: Tensor  # (B, C, H, W) uint8, the first batch on the device

    @property
    def correct_N(self) -> Tensor:
        return self.label_N == self.answer_N


def forward_pass(
    net: DynamicNet,
    data: ImageData,
    knobs: Knobs,
    *,
    rates: Rates | None,
    execution: Execution,
    seed: int,
    effort: Effort,
    features: Split | None = None,
) -> ForwardPass:
    """Images of validation in random order, as many as `effort` says; small ones have at most its pixels a side.

    The network reads `features` in place of the images where rows of them are given for each.
    """
    parts: list[tuple[Tensor, Tensor, Output]] = []
    small: list[Tensor] = []
    count, first = 0, torch.empty(0)
    # in random order: stored ones may be sorted by class
    for step, (batch, read) in enumerate(_batches(data.validation, features, execution, seed)):
        images = batch.images[: effort.images - count]
        labels, ids = batch.labels[: len(images)], batch.ids[: len(images)]
        with execution.autocast():
            inputs = network_inputs(read.images[: len(images)], data, execution)
            output = net.run(inputs, knobs, ids=ids, rates=rates, seed=seed, step=step)
        parts.append((labels.cpu(), output.logits_BC.argmax(1).cpu(), output))
        small.append(_small(images, effort.side).cpu())
        if step == 0:
            first = images
        count += len(images)
        if count >= effort.images:
            break
    return _joined(parts, torch.cat(small), first)


def _batches(
    images: Split, features: Split | None, execution: Execution, seed: int
) -> Iterator[tuple[Batch, Batch]]:
    """Each batch of images, and what the network reads of it."""
    shown = images.batches(BATCH, device=execution.device, shuffle=seed)
    if features is None:
        yield from ((batch, batch) for batch in shown)
        return
    read = features.batches(BATCH, device=execution.device, shuffle=seed)
    yield from zip(shown, read, strict=True)


def _joined(
    parts: list[tuple[Tensor, Tensor, Output]], small: Tensor, first: Tensor
) -> ForwardPass:
    outputs = [output for _, _, output in parts]
    sizes = [len(labels) for labels, _, _ in parts]
    columns = [_columns(output, size) for output, size in zip(outputs, sizes, strict=True)]
    mixtures = [output.extra.get("mixing", []) for output in outputs]
    exits = [output.exits for output in outputs if output.exits is not None]
    return ForwardPass(
        label_N=torch.cat([labels for labels, _, _ in parts]),
        answer_N=torch.cat([answers for _, answers, _ in parts]),
        macs_N=torch.cat([o.macs_B.expand(n).cpu() for o, n in zip(outputs, sizes, strict=True)]),
        gates={name: torch.cat([one[name] for one in columns]) for name in columns[0]},
        layers=[_column(d.gate) for d in outputs[0].decisions if d.gate.kind == "layer"],
        mixtures=[
            torch.cat([w.float().cpu() for w in layer]) for layer in zip(*mixtures, strict=True)
        ],
        exit_N=torch.cat([one.index_B.cpu() for one in exits]) if exits else None,
        exit_answers=[
            torch.cat([o.argmax(1).cpu() for o in one])
            for one in zip(*(e.logits for e in exits), strict=True)
        ],
        exit_macs=[
            torch.cat([m.expand(n).cpu() for m, n in zip(one, sizes, strict=True)])
            for one in zip(*(e.macs for e in exits), strict=True)
        ],
        small=small,
        first=first,
    )


def _column(gate: Gate) -> str:
    return (
        gate.name.removesuffix(".layer") if gate.kind == "layer" else f"block{gate.block} filters"
    )


def _columns(output: Output, size: int) -> dict[str, Tensor]:
    """(B,) by column: whether a layer ran; which share of a block's filters did, none where its layer did not."""
    ran = {
        d.gate.block: d.open_BU[:, 0].double().expand(size).cpu()
        for d in output.decisions
        if d.gate.kind == "layer"
    }
    units: dict[str, list[Tensor]] = {}
    for decision in output.decisions:
        gate = decision.gate
        if gate.kind != "exit":
            open_BU = decision.open_BU.double().expand(size, -1).cpu()
            units.setdefault(_column(gate), []).append(
                open_BU * ran.get(gate.block, torch.ones(size))[:, None]
            )
    return {name: torch.cat(parts, 1).mean(1) for name, parts in units.items()}


def _small(images: Tensor, side: int) -> Tensor:
    """uint8 images of at most `side` pixels a side."""
    height, width = images.shape[2:]
    scale = side / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(images.float(), size, mode="area").round().to(torch.uint8)
