"""One training under way: its epochs, its steps, and all that a checkpoint has to keep of it.

Shapes: B images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spaces.contract.net import DynamicNet, Objective, Output, Plan
from spaces.contract.policies import Policy, Sampled
from spaces.contract.recipe import Recipe
from spaces.contract.truth import Labels, truth_of
from trainers.data.augment import normalized
from trainers.data.recipe_augment import blended, changed
from trainers.data.splits import Batch, ImageData
from trainers.epoch_sums import EpochSums
from trainers.evaluate import network_inputs
from trainers.execution import Execution
from trainers.kept_weights import KeptWeights, part
from trainers.optimizer import load_optimizer, optimizer, optimizer_tensors, set_lr, step_lr
from trainers.together import Terms, Together
from trainers.trunk import Trunk

CHECK_EVERY = 25  # steps between looks at whether the loss is still finite; each costs a device synchronisation


class Training:
    """A network, its optimiser and its objective, trained epoch by epoch."""

    def __init__(
        self,
        net: DynamicNet,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        execution: Execution,
        teacher: DynamicNet | None = None,
        together: Together | None = None,
    ) -> None:
        if recipe.distill and teacher is None:
            raise ValueError("distill: there is no teacher to learn from; give one, or distill: 0")
        self.net, self.data, self.recipe = net, data, recipe
        self.seed, self.execution = seed, execution
        self.teacher = execution.placed(teacher).eval() if teacher and recipe.distill else None
        self.together = together or Together()
        self.batch = self.together.batch(min(recipe.batch, len(data.train)))
        # an epoch; the incomplete batch is dropped (batch norm)
        self.steps = len(data.train) // self.batch
        plan = Plan(
            epochs=recipe.epochs,
            steps=self.steps,
            seed=seed,
            label_smoothing=recipe.label_smoothing,
            class_weights=data.class_weights,
            distill=recipe.distill,
            distill_temperature=recipe.distill_temperature,
        )
        self.objective: Objective = net.objective(plan)
        self.trunk = Trunk(net, recipe)
        self.optimizer = optimizer(net, recipe)
        self.scaler = execution.scaler()
        self.kept = KeptWeights(net, recipe)
        # of `tensors`, those that no training changes
        self.constant = {f"net.{name}" for name in net.constant_names()}
        self.forward: nn.Module = torch.compile(net) if execution.compile else net  # type: ignore[assignment]
        self.together.join(net)

    def epoch(self, epoch: int) -> EpochSums:
        """Train the epoch of this number, from 0. Raises DivergedError."""
        self.begin_epoch(epoch)
        sums, step = EpochSums(), epoch * self.steps
        for batch in self.batches(epoch):
            self._step(step, batch, sums)
            step += 1
            if sums.steps % CHECK_EVERY == 0:
                self.together.summed(sums).check_finite(epoch)
        self.together.average_norms(self.net)
        sums = self.together.summed(sums)
        sums.check_finite(epoch)
        return sums

    def begin_epoch(self, epoch: int) -> None:
        """Put the network and its objective into the state that the epoch begins with."""
        self.trunk.start_epoch(epoch)
        self.together.agree(self.objective)
        self.objective.start_epoch(epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, in its order."""
        return self.data.train.batches(
            self.batch,
            device=self.execution.device,
            shuffle=self.seed * 100_003 + epoch,
            drop_last=True,
            part=self.together.part,
        )

    def _step(self, step: int, batch: Batch, sums: EpochSums) -> None:
        pixels, labels = self.begin_step(step, batch)
        for rows in self._micro_batches(len(pixels)):
            with self.together.adding(last=rows.stop == len(pixels)):
                output = self._backward(
                    step, pixels[rows], labels[rows], batch.ids[rows], len(batch.labels), sums
                )
        self.end_step(step, output)
        sums.steps += 1

    def begin_step(self, step: int, batch: Batch) -> tuple[Tensor, Labels]:
        """Set the learning rate, forget gradients; what the network reads, and what it should answer."""
        alone, total = self.trunk.head_epochs * self.steps, self.recipe.epochs * self.steps
        set_lr(self.optimizer, step_lr(self.recipe, step, total, alone))
        self.optimizer.zero_grad(set_to_none=True)
        return self._inputs(step, batch)

    def end_step(self, step: int, output: Output) -> None:
        """Move the weights along the gradients that are there."""
        if self.recipe.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.kept.after_step(step)
        self.objective.after_step(output)

    def _inputs(self, step: int, batch: Batch) -> tuple[Tensor, Labels]:
        """What the network reads of the step's images, and what it should answer."""
        images, recipe = batch.images, self.recipe
        draws = {"seed": self.together.seed(self.seed), "step": step}
        data = self.data
        if (
            images.is_floating_point()
        ):  # features of images that were changed before they were computed
            return network_inputs(images, data, self.execution), batch.labels
        images = changed(images, recipe, flip=data.flip, size=data.size, **draws)
        pixels = normalized(images, data.mean, data.std)
        labels: Labels = batch.labels
        if recipe.augment:
            pixels, labels = blended(pixels, batch.labels, self.net.task.classes, recipe, **draws)
        return self.execution.laid_out(pixels), labels

    def _micro_batches(self, images: int) -> Iterator[slice]:
        """The parts of a batch that are in memory at once; one image more goes with the last (batch norm)."""
        size = self.execution.micro_batch or self.recipe.micro_batch or images
        start = 0
        while start < images:
            stop = images if start + size >= images - 1 else start + size
            yield slice(start, stop)
            start = stop

    def _backward(
        self,
        step: int,
        pixels: Tensor,
        labels: Labels,
        ids_B: Tensor,
        images: int,
        sums: EpochSums,
    ) -> Output:
        """Add the gradients of some of a step's so many images."""
        policy = self.objective.policy(step, ids_B)
        if self.execution.compile and isinstance(policy, Sampled):
            # drawn here, the step's number stays out of the graph and compiles it once only
            _ = policy.noise_BT
        terms, output = self.together.losses(partial(self._losses, pixels, labels, policy))
        share = len(ids_B) / images
        loss = loss_of(terms)
        self.scaler.scale(loss if share == 1 else share * loss).backward()
        sums.add(terms, output, labels, share)
        return output

    def _losses(self, pixels: Tensor, labels: Labels, policy: Policy) -> tuple[Terms, Output]:
        """The terms of the loss, and what the network gave."""
        with self.execution.autocast():
            output: Output = self.forward(pixels, policy)
        if self.teacher is not None:
            labels = truth_of(labels).taught(self._taught(self.teacher, pixels))
        return self.objective.losses(output, labels), output

    def _taught(self, teacher: DynamicNet, pixels: Tensor) -> Tensor:
        """(B, C) the teacher's logits."""
        with torch.no_grad(), self.execution.autocast():
            logits: Tensor = teacher(pixels).logits_BC
        return logits

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint."""
        own = {f"optimizer.{k}": t for k, t in optimizer_tensors(self.optimizer).items()}
        return self.kept.tensors() | own

    def state(self) -> dict[str, Any]:
        """What else a checkpoint keeps of the training."""
        state = {"seed": self.seed, "objective": self.objective.state()}
        if self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        return state | {"execution": self.execution.as_dict(), "kept": self.kept.state()}

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from what `tensors` and `state` returned."""
        self.kept.load(tensors, state.get("kept", {}))
        load_optimizer(self.optimizer, part(tensors, "optimizer."))
        self.objective.load(state["objective"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])


def loss_of(terms: Terms) -> Tensor:
    """The loss that is minimised."""
    return torch.stack([term.float() for term in terms.values()]).sum()
