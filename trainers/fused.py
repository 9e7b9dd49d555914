"""Several trainings that train each epoch as one: their networks are stacked, all else is each training's own.

Each has its order of images, its changes of them, its noise of gates, its objective, optimiser, schedule and moving
average, as if it trained alone. Forward and backward pass are one for all. So weights are those of a training alone but
for rounding: in float64 equal to 1e-10. In float32 a gate's logit may be so near its threshold that rounding decides
it; from there on the training takes another way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from spaces.contract.net import Output
from spaces.contract.policies import Policy
from spaces.contract.recipe import Recipe
from spaces.contract.truth import Labels
from trainers.data.splits import Batch
from trainers.data.streamed import StreamedPixels
from trainers.epoch_sums import DivergedError, EpochSums
from trainers.fit import Trained, trained_alone
from trainers.stacked import Stack
from trainers.training import CHECK_EVERY, Training, loss_of

logger = logging.getLogger(f"dynafront.{__name__}")


class FusedError(RuntimeError):
    """An epoch could not be trained as one, for a reason that need not be this training's own."""


@dataclass(eq=False)
class _Member:
    """A training of the group, and what its next epoch gave once that is trained."""

    training: Training
    kind: Hashable
    sums: EpochSums | Exception | None = None
    seconds: float = 0.0


class Fused:
    """Trainings that go through their epochs in step: the first that asks for an epoch has all train it.

    Those of one kind train as one; one that is left alone of its kind trains as it would elsewhere.
    """

    def __init__(self) -> None:
        self._members: list[_Member] = []
        self._stacks: dict[Hashable, Stack] = {}

    @contextmanager
    def joined(self, training: Training, likeness: Hashable) -> Iterator[Trained]:
        """What trains its epochs, as long as it is in."""
        self.join(training, likeness)
        try:
            yield self.trained
        finally:
            self.leave(training)

    def join(self, training: Training, likeness: Hashable) -> None:
        """Take a training in before its first epoch; `likeness` is equal for candidates whose networks run alike."""
        kind = (likeness, _structure(training)) if can_fuse(training) else id(training)
        self._members.append(_Member(training, kind))

    def leave(self, training: Training) -> None:
        """It trains no more: its network has weights of its own again, and the others have another stack."""
        member = self._member(training)
        self._members.remove(member)
        if (stack := self._stacks.pop(member.kind, None)) is not None:
            try:
                stack.release()
            # no memory, or a broken GPU: weights are what they were, in the old stack
            except RuntimeError as error:
                logger.warning("networks that trained as one keep their common weights: %s", error)

    def trained(self, training: Training, epoch: int) -> tuple[EpochSums, float]:
        """What the epoch of this number, from 0, adds up to, and the seconds that all took for it together.

        Raises DivergedError for one alone, FusedError for all where they could not be trained as one.
        """
        member = self._member(training)
        if member.sums is None:
            self._train([one for one in self._members if one.kind == member.kind], epoch)
        sums, member.sums = member.sums, None
        assert sums is not None
        if isinstance(sums, Exception):
            raise sums
        return sums, member.seconds

    def _member(self, training: Training) -> _Member:
        return next(one for one in self._members if one.training is training)

    def _train(self, members: list[_Member], epoch: int) -> None:
        if len(members) == 1:
            members[0].sums, members[0].seconds = trained_alone(members[0].training, epoch)
            return
        kind, trainings = members[0].kind, [one.training for one in members]
        started = time.perf_counter()
        try:
            if kind not in self._stacks:
                self._stacks[kind] = Stack([one.net for one in trainings])
            found = list(_Epoch(trainings, self._stacks[kind], epoch).trained())
        except Exception as error:
            found = [_failed(error) for _ in members]
        for member, sums in zip(members, found, strict=True):
            member.sums, member.seconds = sums, time.perf_counter() - started


def can_fuse(training: Training) -> bool:
    """Whether a training can be one of several that train as one."""
    execution = training.execution
    plain = not (execution.compile or execution.channels_last or execution.micro_batch)
    images, ours = training.data.train, training.together.alone
    # each training would decode all images anew, at the same time, in processes of its own
    held = not images.of_features and not isinstance(images.pixels, StreamedPixels)
    return (
        plain and execution.dtype != "float16" and held and ours and recipe_fuses(training.recipe)
    )


def recipe_fuses(recipe: Recipe) -> bool:
    """Whether all of a network learns, from whole batches, and from labels alone."""
    return not (recipe.micro_batch or recipe.head_epochs or recipe.freeze_norm or recipe.distill)


def _structure(training: Training) -> Hashable:
    """What trainings of one kind have in common beside the settings of their networks."""
    net = training.net
    tensors = tuple((name, t.shape, t.dtype) for name, t in net.state_dict().items())
    of_data = id(training.data), training.batch, training.recipe.epochs
    return type(net), net.gates, tensors, of_data, training.execution


def _failed(error: Exception) -> FusedError:
    failed = FusedError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    failed.__cause__ = error
    return failed


class _Epoch:
    """One epoch of several trainings. What goes wrong in one of them ends that one."""

    def __init__(self, trainings: Sequence[Training], stack: Stack, epoch: int) -> None:
        self.trainings, self.stack, self.epoch = trainings, stack, epoch
        self.sums = [EpochSums() for _ in trainings]
        self.errors: dict[int, Exception] = {}

    def trained(self) -> Iterator[EpochSums | Exception]:
        """What the epoch gave each of them."""
        for training in self.trainings:
            training.begin_epoch(self.epoch)
        first = self.epoch * self.trainings[0].steps
        batches = zip(*(one.batches(self.epoch) for one in self.trainings), strict=True)
        for step, batch_N in enumerate(batches, start=first):
            self._step(step, batch_N)
            if (step - first + 1) % CHECK_EVERY == 0:
                self._check()
        self._check()
        for index, sums in enumerate(self.sums):
            yield self.errors.get(index, sums)

    def _step(self, step: int, batches: Sequence[Batch]) -> None:
        inputs = [
            one.begin_step(step, batch) for one, batch in zip(self.trainings, batches, strict=True)
        ]
        policies = [
            one.objective.policy(step, batch.ids)
            for one, batch in zip(self.trainings, batches, strict=True)
        ]
        outputs, stacked = self._outputs([pixels for pixels, _ in inputs], policies)
        losses = [
            loss
            for index, (_, labels) in enumerate(inputs)
            if (loss := self._loss(index, outputs[index], labels)) is not None
        ]
        if not losses:
            return
        torch.stack(losses).sum().backward()
        if stacked:
            self.stack.hand_gradients()
        for index, training in enumerate(self.trainings):
            if index not in self.errors:
                training.end_step(step, outputs[index])
                self.sums[index].steps += 1

    def _outputs(
        self, pixels: Sequence[Tensor], policies: Sequence[Policy]
    ) -> tuple[list[Output], bool]:
        """What each network makes of its images, and whether they ran as one: not where their gates are decided
        in different ways, as while those of one of them are held open."""
        with self.trainings[0].execution.autocast():
            if (found := self.stack.outputs(pixels, policies)) is not None:
                return found, True
            runs = zip(self.trainings, pixels, policies, strict=True)
            return [one.net(images, policy) for one, images, policy in runs], False

    def _loss(self, index: int, output: Output, labels: Labels) -> Tensor | None:
        """What one of them minimises; None once it has failed."""
        if index in self.errors:
            return None
        try:
            terms = self.trainings[index].objective.losses(output, labels)
            loss = loss_of(terms)
        except Exception as error:
            self.errors[index] = error
            return None
        self.sums[index].add(terms, output, labels)
        return loss

    def _check(self) -> None:
        for index, sums in enumerate(self.sums):
            try:
                if index not in self.errors:
                    sums.check_finite(self.epoch)
            except DivergedError as error:
                self.errors[index] = error
