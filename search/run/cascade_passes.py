"""Cascades measured by real passes over validation, each member on images as the exported model gives them to it.

Heads on a frozen trunk answer for features of these images, which pass the trunk once for all of its members.

Shapes: B images of a batch, N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from search.measure.cascade_tables import Floats
from search.run.data import data_spec, load_data
from search.run.jobs import job_of
from search.run.measured_net import measured_net
from search.spec import StudySpec
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet
from storage.records import PointRecord, TrialRecord
from trainers.data.own_pixels import own_pixels
from trainers.data.splits import ImageData, Split
from trainers.evaluate import BATCH
from trainers.execution import Execution, best_device
from trainers.feature_files import FeatureFiles
from trainers.frozen import rows_of


@dataclass(frozen=True)
class TrainedMember:
    """A trained network at one of its operating points, with the images that it was trained on."""

    net: DynamicNet
    knobs: Knobs
    rates: Rates
    data: ImageData

    def answered(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, C) and MACs (B,) for pixels in [0, 1] of images that may be larger than its own."""
        return self._run(own_pixels(pixels, self.data))

    @torch.inference_mode()
    def answers(
        self, split: Split, execution: Execution, files: FeatureFiles | None = None
    ) -> tuple[Tensor, Floats]:
        """Probabilities (N, C) and MACs (N,) for images that may be larger than its own.

        Where its trunk is frozen, its heads answer for features, which `files` keep for all members of this trunk.
        """
        rows = rows_of(self.net, split, self.data, files=files, execution=execution)
        probabilities, macs = [], []
        given, run = (split, self._of_images) if rows is None else (rows, self._run)
        for batch in given.batches(BATCH, device=execution.device):
            found, paid = run(batch.images)
            probabilities.append(found.cpu())
            macs.append(paid.cpu())
        return torch.cat(probabilities), torch.cat(macs).numpy()

    def _of_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.answered(images.float() / 255)

    def _run(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, C) and MACs (B,) for what the network takes: pixels, or rows of features."""
        found = self.net.run(inputs, self.knobs, rates=self.rates)
        return found.logits_BC.softmax(1), found.macs_B.double().expand(len(inputs))


def trained_member(
    spec: StudySpec,
    trial: TrialRecord,
    point: PointRecord,
    checkpoints: str,
    url: str | None = None,
) -> TrainedMember:
    """The network at its point, statistics refreshed where its knobs say so. Raises ValueError without a checkpoint.

    `url`: where checkpoints of other machines are found.
    """
    knobs = Knobs(**point.knobs)
    net, _, data = measured_net(job_of(spec, trial, checkpoints, store=url), knobs)
    return TrainedMember(net, knobs, point.rates, data)


@dataclass
class Passes:
    """Passes over validation, each made once: of a member for images of a size."""

    spec: StudySpec
    checkpoints: str
    files: FeatureFiles | None = None  # of frozen trunks
    url: str | None = None  # where checkpoints of other machines are found
    execution: Execution = field(default_factory=lambda: Execution(device=best_device()))
    _done: dict[tuple[int | None, int | None], tuple[Tensor, Floats]] = field(default_factory=dict)

    def answers(
        self, trial: TrialRecord, point: PointRecord, size: int | None
    ) -> tuple[Tensor, Floats]:
        """What the member answers where the cascade takes images of this side; None: there is one size."""
        key = point.id, size
        if key not in self._done:
            member = trained_member(self.spec, trial, point, self.checkpoints, self.url)
            self.execution.placed(member.net)
            split = self._validation(size)
            self._done[key] = member.answers(split, self.execution, self.files)
        return self._done[key]

    def _validation(self, size: int | None) -> Split:
        return load_data(data_spec(self.spec, size)).validation


def largest(sizes: Sequence[int | None]) -> int | None:
    """The side that a cascade of members of these sides takes."""
    return max((size for size in sizes if size is not None), default=None)
