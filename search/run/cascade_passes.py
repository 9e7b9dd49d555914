"""Cascades measured by real passes over validation, each member on images as the exported model gives them to it.

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
from spaces.deploy.resized import resized
from storage.records import PointRecord, TrialRecord
from trainers.data.splits import ImageData, Split
from trainers.evaluate import BATCH
from trainers.execution import Execution, best_device


@dataclass(frozen=True)
class TrainedMember:
    """A trained network at one of its operating points, with the images that it was trained on."""

    net: DynamicNet
    knobs: Knobs
    rates: Rates
    data: ImageData

    @property
    def side(self) -> tuple[int, int]:
        """Height and width of its images."""
        return self.data.height, self.data.width

    def answered(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, C) and MACs (B,) for pixels in [0, 1] of images that may be larger than its own."""
        mean, std = (
            torch.tensor(values, dtype=pixels.dtype, device=pixels.device)[:, None, None]
            for values in (self.data.mean, self.data.std)
        )
        own = (resized(pixels, *self.side) - mean) / std
        found = self.net.run(own, self.knobs, rates=self.rates)
        return found.logits_BC.softmax(1), found.macs_B.double().expand(len(pixels))

    @torch.inference_mode()
    def answers(self, split: Split, execution: Execution) -> tuple[Tensor, Floats]:
        """Probabilities (N, C) and MACs (N,) for images that may be larger than its own."""
        probabilities, macs = [], []
        for batch in split.batches(BATCH, device=execution.device):
            found, paid = self.answered(batch.images.float() / 255)
            probabilities.append(found.cpu())
            macs.append(paid.cpu())
        return torch.cat(probabilities), torch.cat(macs).numpy()


def trained_member(
    spec: StudySpec, trial: TrialRecord, point: PointRecord, checkpoints: str
) -> TrainedMember:
    """The network at its point, statistics refreshed where its knobs say so. Raises ValueError without a checkpoint."""
    knobs = Knobs(**point.knobs)
    net, _, data = measured_net(job_of(spec, trial, checkpoints), knobs)
    return TrainedMember(net, knobs, point.rates, data)


@dataclass
class Passes:
    """Passes over validation, each made once: of a member for images of a size."""

    spec: StudySpec
    checkpoints: str
    execution: Execution = field(default_factory=lambda: Execution(device=best_device()))
    _done: dict[tuple[int | None, int | None], tuple[Tensor, Floats]] = field(default_factory=dict)

    def answers(
        self, trial: TrialRecord, point: PointRecord, size: int | None
    ) -> tuple[Tensor, Floats]:
        """What the member answers where the cascade takes images of this side; None: there is one size."""
        key = point.id, size
        if key not in self._done:
            member = trained_member(self.spec, trial, point, self.checkpoints)
            self.execution.placed(member.net)
            split = self._validation(size)
            self._done[key] = member.answers(split, self.execution)
        return self._done[key]

    def _validation(self, size: int | None) -> Split:
        return load_data(data_spec(self.spec, size)).validation


def largest(sizes: Sequence[int | None]) -> int | None:
    """The side that a cascade of members of these sides takes."""
    return max((size for size in sizes if size is not None), default=None)
