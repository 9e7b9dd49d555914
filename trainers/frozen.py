"""Training data of a frozen trunk: features of the images in place of the images, computed once and kept.

What is kept depends on the trunk's weights, the images with their size, the view and the place, and is kept under their
digest: all trials that share a trunk share its features. Training features are float16, one set a view; validation
features are float32, as the network itself computes them, so that what is measured on them is what it answers.

Shapes: N images, B images of a batch, D numbers of a row.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spaces.exits.frozen_trunk import FrozenTrunkNet, Read
from trainers.data.augment import augmented, normalized
from trainers.data.part import WHOLE, Part
from trainers.data.splits import Batch, ImageData, Split
from trainers.evaluate import BATCH
from trainers.execution import Execution
from trainers.feature_files import FeatureFiles, NoRoomError, Wanted

logger = logging.getLogger(f"dynafront.{__name__}")

VERSION = 1  # of how features are made
HALF = 65504.0  # the largest number of float16
VIEW_SEED = 20_020
MEMORY = 2 * 2**30  # bytes of features that are held in memory where no file can be written


class FeatureSplit(Split):
    """A split whose batches are rows of features: each image in one of its views, drawn anew each epoch."""

    def __init__(self, split: Split, views: Sequence[Sequence[NDArray[Any]]]) -> None:
        super().__init__(split.labels, split.ids, split.pixels)
        self.views = views

    def batches(
        self,
        size: int,
        *,
        device: str | torch.device = "cpu",
        shuffle: int | None = None,
        drop_last: bool = False,
        part: Part = WHOLE,
    ) -> Iterator[Batch]:
        view_N = np.zeros(len(self), dtype=np.int64)
        if shuffle is not None:
            view_N = np.random.default_rng((shuffle, VIEW_SEED)).integers(
                0, len(self.views), len(self)
            )
        for order_B in map(part.of, self._orders(size, shuffle, drop_last)):
            rows = self.rows(order_B.numpy(), view_N[order_B.numpy()])
            labels, ids = self.labels[order_B], self.ids[order_B]
            yield Batch(rows.to(device), labels.to(device), ids.to(device))

    def rows(self, order_B: NDArray[np.int64], view_B: NDArray[np.int64]) -> Tensor:
        """(B, D) float32 of these images, each in its view."""
        parts = []
        for read in range(len(self.views[0])):
            part = np.empty((len(order_B), self.views[0][read].shape[1]), dtype=np.float32)
            for view in np.unique(view_B):
                here = view_B == view
                part[here] = self.views[view][read][order_B[here]]
            parts.append(torch.from_numpy(part))
        return torch.cat(parts, 1)

    def moments(self, read: int) -> tuple[Tensor, Tensor]:
        """(D,) mean and variance of what is read, over all images in all views."""
        total, squares, count = 0.0, 0.0, 0
        for view in self.views:
            for start in range(0, len(self), BATCH):
                rows = view[read][start : start + BATCH].astype(np.float64)
                total, squares = total + rows.sum(0), squares + (rows**2).sum(0)
                count += len(rows)
        mean = total / count
        variance = np.maximum(squares / count - mean**2, 0.0)
        return torch.from_numpy(mean).float(), torch.from_numpy(variance).float()


def frozen_data(
    net: FrozenTrunkNet,
    data: ImageData,
    *,
    views: int,
    files: FeatureFiles | None,
    execution: Execution,
) -> ImageData | None:
    """The data with features in place of images, and the norms of the network's linear probes set to theirs.

    The network is left in eval mode. None where features cannot be kept: gates change them, or there is no room for
    them; the network then trains on images, its trunk frozen all the same.
    """
    if not net.reads:
        return None
    net = execution.placed(net).eval()  # type: ignore[assignment]
    digests = {read.name: trunk_digest(net, read) for read in (*net.reads, *net.all_reads())}
    source = _Source(net, data, execution, files, digests)
    try:
        train = FeatureSplit(data.train, [source.train(view) for view in range(views)])
        validation = FeatureSplit(data.validation, [source.validation()])
    except NoRoomError as error:
        logger.warning("features are not kept, so each trial computes them anew: %s", error)
        return None
    moments = [train.moments(number) for number in range(len(net.reads))]
    means = {read.name: mean for read, (mean, _) in zip(net.reads, moments, strict=True)}
    variances = {read.name: var for read, (_, var) in zip(net.reads, moments, strict=True)}
    pooled = {read.name for read in net.reads if read.kind == "pooled"}
    net.standardise(
        {name: means[name] for name in pooled}, {name: variances[name] for name in pooled}
    )
    return replace(data, train=train, validation=validation)


@dataclass(frozen=True)
class _Source:
    """Where a network's features come from: files, else its trunk."""

    net: FrozenTrunkNet
    data: ImageData
    execution: Execution
    files: FeatureFiles | None
    digests: Mapping[str, str]  # of the trunk, by name of what is read

    def train(self, view: int) -> list[NDArray[Any]]:
        """What the heads read of the training images in a view."""
        return self._arrays(self.data.train, "float16", view)

    def validation(self) -> list[NDArray[Any]]:
        return self._arrays(self.data.validation, "float32", 0)

    def _arrays(self, split: Split, dtype: str, view: int) -> list[NDArray[Any]]:
        net = self.net
        kept = [*net.reads, *(read for read in net.all_reads() if read not in net.reads)]
        named = {f"{read.name} {read.kind}": read for read in kept}
        wanted = {name: self._wanted(split, read, dtype, view) for name, read in named.items()}

        def compute(names: list[str]) -> Iterator[dict[str, NDArray[Any]]]:
            reads = [named[name] for name in names]
            for rows in self._computed(split, reads, view):
                yield dict(zip(names, (_cast(own, dtype) for own in rows), strict=True))

        if self.files is None:
            return _in_memory(wanted, compute, list(named)[: len(net.reads)])
        try:
            arrays = self.files.arrays(wanted, compute)
        except NoRoomError as error:
            logger.warning("features are held in memory: %s", error)
            return _in_memory(wanted, compute, list(named)[: len(net.reads)])
        return [arrays[name] for name in list(named)[: len(net.reads)]]

    def _wanted(self, split: Split, read: Read, dtype: str, view: int) -> Wanted:
        parts = (
            VERSION,
            self.net.trunk_identity(),
            self.digests[read.name],
            images_digest(split),
            (self.data.mean, self.data.std, self.data.flip if view else None),
            (read.name, read.kind, read.shape),
            (view, dtype, self.execution.dtype),
        )
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:40]
        return Wanted(key, len(split), read.width, dtype)

    @torch.inference_mode()
    def _computed(self, split: Split, reads: Sequence[Read], view: int) -> Iterator[list[Tensor]]:
        """What is read of each batch of images, in their order."""
        logger.info("computing features of %d images, view %d", len(split), view)
        for step, batch in enumerate(split.batches(BATCH, device=self.execution.device)):
            images = seen_in(view, batch.images, step, self.data.flip)
            pixels = self.execution.laid_out(normalized(images, self.data.mean, self.data.std))
            with self.execution.autocast():
                found = self.net.features(pixels, reads)
            yield [rows.float().cpu() for rows in found]


def seen_in(view: int, images: Tensor, step: int, flip: bool) -> Tensor:
    """The images in a view: as they are, mirrored where that keeps their labels, else shifted and mirrored at random.

    Images (B, C, H, W) uint8 of the `step`-th batch of the split; the same whoever asks.
    """
    if view == 0:
        return images
    if view == 1 and flip:
        return images.flip(3)
    pad = max(1, images.shape[-1] // 8)
    return augmented(images, seed=VIEW_SEED + view, step=step, flip=flip, pad=pad)


def _in_memory(
    wanted: dict[str, Wanted],
    compute: Callable[[list[str]], Iterator[dict[str, NDArray[Any]]]],
    names: list[str],
) -> list[NDArray[Any]]:
    """The arrays of these names, computed and kept nowhere. Raises NoRoomError where they are too large for that."""
    if sum(wanted[name].nbytes for name in names) > MEMORY:
        raise NoRoomError(f"features take more than {MEMORY} bytes of memory")
    batches = list(compute(names))
    return [np.concatenate([rows[name] for rows in batches]) for name in names]


def _cast(rows: Tensor, dtype: str) -> NDArray[Any]:
    """As numbers of the type. Raises NoRoomError for numbers that float16 does not hold."""
    if dtype == "float16" and float(rows.abs().max()) > HALF:
        raise NoRoomError("features are larger than float16 holds")
    found: NDArray[Any] = rows.numpy().astype(dtype)
    return found


def trunk_digest(net: FrozenTrunkNet, read: Read) -> str:
    """A hash of the tensors that what is read depends on."""
    state, found = net.state_dict(), hashlib.sha256()
    for name in sorted(net.trunk_names(read)):
        if not name.endswith("num_batches_tracked"):
            found.update(name.encode())
            found.update(np.ascontiguousarray(state[name].cpu().numpy()).tobytes())
    return found.hexdigest()


@lru_cache(maxsize=8)
def images_digest(split: Split) -> str:
    """A hash of all pixels of a split, in their order."""
    found = hashlib.sha256()
    for batch in split.batches(BATCH):
        found.update(repr(tuple(batch.images.shape)).encode())
        found.update(batch.images.numpy().tobytes())
    return found.hexdigest()
