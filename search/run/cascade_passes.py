"""Cascades measured by real passes over validation, each member on images as the exported model gives them to it.

Heads on a frozen trunk answer for features of these images, which pass the trunk once for all of its members.

Shapes: B images of a batch, N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from search.latency.cascades import member_ms
from search.latency.predict import NetLatency
from search.latency.table import LatencyTable
from search.measure.cascade_tables import Floats
from search.run.data import data_spec, load_data
from search.run.jobs import job_of
from search.run.measured_net import measured_net
from search.spec import StudySpec
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet, Output
from spaces.contract.units import Ran
from storage.records import PointRecord, TrialRecord
from trainers.data.own_pixels import own_pixels
from trainers.data.splits import ImageData, Split
from trainers.evaluate import BATCH
from trainers.execution import Execution, best_device
from trainers.feature_files import FeatureFiles
from trainers.frozen import rows_of


class MemberPass(NamedTuple):
    """Probabilities (N, C), MACs (N,) and milliseconds (N,) without the call; None without a latency table."""

    probabilities: Tensor
    macs: Floats
    ms: Tensor | None


@dataclass(frozen=True)
class TrainedMember:
    """A trained network at one of its operating points, with the images that it was trained on."""

    net: DynamicNet
    knobs: Knobs
    rates: Rates
    data: ImageData
    clock: NetLatency | None = None

    def answered(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, C) and MACs (B,) for pixels in [0, 1] of images that may be larger than its own."""
        found = self._run(own_pixels(pixels, self.data))
        return found.logits_BC.softmax(1), found.macs_B.double().expand(len(pixels))

    def answers(
        self, split: Split, execution: Execution, files: FeatureFiles | None = None
    ) -> tuple[Tensor, Floats]:
        """Probabilities (N, C) and MACs (N,) for images that may be larger than its own."""
        probabilities, macs, _ = self.passed(split, execution, files)
        return probabilities, macs

    def passed(
        self,
        split: Split,
        execution: Execution,
        files: FeatureFiles | None = None,
        size: tuple[int, int] | None = None,
    ) -> MemberPass:
        """What it does with images that may be larger than its own; `size` is their height and width, None: its own.

        Where its trunk is frozen, its heads answer for features, which `files` keep for all members of this trunk.
        Raises MissingUnitsError where its clock lacks a unit.
        """
        with torch.inference_mode():
            rows = rows_of(self.net, split, self.data, files=files, execution=execution)
        probabilities, macs, ran = [], [], []
        given, run = (split, self._of_images) if rows is None else (rows, self._run)
        with torch.inference_mode():
            for batch in given.batches(BATCH, device=execution.device):
                found = run(batch.images)
                probabilities.append(found.logits_BC.softmax(1).cpu())
                macs.append(found.macs_B.double().expand(len(batch.images)).cpu())
                ran.append(Ran.of(found))
        # outside: keys of units are of the operations as they are without it
        ms = self._ms(Ran.joined(ran), size)
        return MemberPass(torch.cat(probabilities), torch.cat(macs).numpy(), ms)

    def _ms(self, ran: Ran, size: tuple[int, int] | None) -> Tensor | None:
        if self.clock is None:
            return None
        own = self.net.task
        height, width = size or (own.height, own.width)
        given = replace(own, height=height, width=width)
        return member_ms(self.clock, self.knobs, self.rates, ran, given)

    def _of_images(self, images: Tensor) -> Output:
        return self._run(own_pixels(images.float() / 255, self.data))

    def _run(self, inputs: Tensor) -> Output:
        """For what the network takes: pixels, or rows of features."""
        return self.net.run(inputs, self.knobs, rates=self.rates)


def trained_member(
    spec: StudySpec,
    trial: TrialRecord,
    point: PointRecord,
    checkpoints: str,
    url: str | None = None,
    table: LatencyTable | None = None,
) -> TrainedMember:
    """The network at its point, statistics refreshed where its knobs say so. Raises ValueError without a checkpoint.

    `url`: where checkpoints of other machines are found.
    """
    knobs = Knobs(**point.knobs)
    net, _, data = measured_net(job_of(spec, trial, checkpoints, store=url), knobs)
    clock = None if table is None else NetLatency(net, table, in_cascade=True)
    return TrainedMember(net, knobs, point.rates, data, clock)


@dataclass
class Passes:
    """Passes over validation, each made once: of a member for images of a size."""

    spec: StudySpec
    checkpoints: str
    files: FeatureFiles | None = None  # of frozen trunks
    url: str | None = None  # where checkpoints of other machines are found
    execution: Execution = field(default_factory=lambda: Execution(device=best_device()))
    table: LatencyTable | None = None
    _done: dict[tuple[int | None, int | None], MemberPass] = field(default_factory=dict)

    def answers(self, trial: TrialRecord, point: PointRecord, size: int | None) -> MemberPass:
        """What the member answers where the cascade takes images of this side; None: there is one size."""
        key = point.id, size
        if key not in self._done:
            member = trained_member(self.spec, trial, point, self.checkpoints, self.url, self.table)
            self.execution.placed(member.net)
            data = load_data(data_spec(self.spec, size))
            given = data.height, data.width
            self._done[key] = member.passed(data.validation, self.execution, self.files, given)
        return self._done[key]


def largest(sizes: Sequence[int | None]) -> int | None:
    """The side that a cascade of members of these sides takes."""
    return max((size for size in sizes if size is not None), default=None)
