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
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.exits.frozen_trunk import COUNTER, FrozenTrunkNet, Read
from trainers.data.augment import augmented, centre, eighth
from trainers.data.own_pixels import own_pixels
from trainers.data.splits import ImageData, Split
from trainers.evaluate import BATCH
from trainers.execution import Execution
from trainers.feature_files import FeatureFiles, NoRoomError, Wanted
from trainers.feature_split import VIEW_SEED, FeatureSplit

logger = logging.getLogger(f"dynafront.{__name__}")

VERSION = 2  # of how features are made
# images that pass a trunk at once on a CPU: what lies between its layers stays in the cache. EfficientNet-Lite0 at 96
# pixels takes 7.3 ms an image, by 512 at once 16.7 (one thread), and answers to the bit the same
CHUNK = 32
HALF = 65504.0  # the largest number of float16
MEMORY = 2 * 2**30  # bytes of features that are held in memory where no file can be written


def frozen_data(
    net: DynamicNet,
    data: ImageData,
    *,
    views: int,
    files: FeatureFiles | None,
    execution: Execution,
) -> ImageData | None:
    """The data with features in place of images, and the norms of the network's linear probes set to theirs.

    The network is left in eval mode. None where features cannot be kept: its trunk learns, gates change them, or there
    is no room for them; the network then trains on images, its trunk frozen all the same where that was asked for.
    """
    source = _source(net, data, execution, files)
    if source is None:
        return None
    net = source.net
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


def views_of(candidate: Candidate) -> int:
    """Views of a training image that heads of a frozen trunk train on."""
    views: int = getattr(candidate.config, "feature_views", 1)
    return views if candidate.recipe.augment else 1


def rows_of(
    net: DynamicNet,
    split: Split,
    data: ImageData,
    *,
    files: FeatureFiles | None,
    execution: Execution,
) -> Split | None:
    """The split with features in place of images, for a network that was trained on `data`; None as in `frozen_data`.

    The images may be larger than the network's own: they are made smaller as a cascade makes them for its members.
    """
    source = _source(net, replace(data, validation=split), execution, files)
    if source is None:
        return None
    try:
        return FeatureSplit(split, [source.validation()])
    except NoRoomError as error:
        logger.info("images are read, not features of them: %s", error)
        return None


def has_features(net: DynamicNet) -> TypeGuard[FrozenTrunkNet]:
    """Whether its heads may train on features in place of images."""
    return isinstance(net, FrozenTrunkNet) and bool(net.reads)


def _source(
    net: DynamicNet, data: ImageData, execution: Execution, files: FeatureFiles | None
) -> _Source | None:
    """Where the network's features come from, the network placed and in eval mode; None where it has none to keep."""
    if not has_features(net):
        return None
    net = execution.placed(net).eval()
    assert isinstance(net, FrozenTrunkNet)
    digests = {read.name: trunk_digest(net, read) for read in (*net.reads, *net.all_reads())}
    return _Source(net, data, execution, files, digests)


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
            *self._made_smaller(split),
        )
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:40]
        return Wanted(key, len(split), read.width, dtype)

    def _made_smaller(self, split: Split) -> tuple[tuple[int, int], ...]:
        """The size that images of the split are brought to, where they have another."""
        own = (self.data.height, self.data.width)
        return () if next(split.batches(1)).images.shape[2:] == own else (own,)

    @torch.inference_mode()
    def _computed(self, split: Split, reads: Sequence[Read], view: int) -> Iterator[list[Tensor]]:
        """What is read of each batch of images, in their order."""
        logger.info("computing features of %d images, view %d", len(split), view)
        for step, batch in enumerate(split.batches(BATCH, device=self.execution.device)):
            images = batch.images
            if split is self.data.train:
                images = seen_in(view, images, step, self.data)
            for part in images.split(CHUNK if self.execution.device == "cpu" else BATCH):
                yield self._read(part, reads)

    def _read(self, images: Tensor, reads: Sequence[Read]) -> list[Tensor]:
        """What is read of some images, on the CPU."""
        pixels = self.execution.laid_out(own_pixels(images.float() / 255, self.data))
        with self.execution.autocast():
            found = self.net.features(pixels, reads)
        return [rows.float().cpu() for rows in found]


def seen_in(view: int, images: Tensor, step: int, data: ImageData) -> Tensor:
    """The images in a view: as in validation, mirrored where that keeps their labels, else shifted and mirrored at
    random.

    Images (B, C, H, W) uint8 of the `step`-th batch of the training images; the same whoever asks.
    """
    if view == 0:
        return centre(images, data.size)
    if view == 1 and data.flip:
        return centre(images, data.size).flip(3)
    seed = VIEW_SEED + view
    moved = augmented(images, seed=seed, step=step, flip=data.flip, pad=eighth(data.size))
    return centre(moved, data.size)


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
        if not name.endswith(COUNTER):
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
