"""The training loop of every family.

`fit` is a generator: it trains one epoch for each record it yields, and a caller that asks for no more has stopped it.
Everything random is a function of (seed, epoch or step, image), so a training resumed from its checkpoint equals an
uninterrupted one; the global random state is left as it was.

Shapes: B images, C classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet, Objective, Output, Plan
from spaces.contract.policies import Sampled
from spaces.contract.recipe import Recipe
from trainers.data.augment import augmented
from trainers.data.splits import ImageData
from trainers.evaluate import evaluate, mean_rates, network_inputs
from trainers.execution import Execution
from trainers.metrics import ACCURACY, Metric
from trainers.optimizer import load_optimizer, lr_factor, optimizer, optimizer_tensors, set_lr

CHECK_EVERY = 25  # steps between looks at whether the loss is still finite; each costs a device synchronisation


class Slot(Protocol):
    """Where a training keeps its latest checkpoint."""

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None: ...

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None: ...


@dataclass(frozen=True)
class EpochResult:
    """One epoch: its number from 1, measures by name, open rate of every gate (of its units, on validation)."""

    epoch: int
    metrics: dict[str, float]
    gate_rates: dict[str, float]


class DivergedError(ArithmeticError):
    """The loss stopped being a number; says in which epoch and which term."""

    def __init__(self, epoch: int, cause: str) -> None:
        super().__init__(
            f"epoch {epoch}: {cause} is not finite; a lower learning rate or gradient clipping may help"
        )
        self.epoch = epoch


def fit(
    net: DynamicNet,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int = 0,
    execution: Execution | None = None,
    slot: Slot | None = None,
    metric: Metric = ACCURACY,
) -> Generator[EpochResult, None, None]:
    """Train `net` in place, yielding one record an epoch; with a slot, continue from its checkpoint and keep it.

    Records have top-1 accuracy on validation, and what the `metric` says beside it.
    A training that continues first yields the record of its last epoch again: it may have been lost with its reader.
    When the generator ends the network is on the execution's device in eval mode. Raises DivergedError.
    """
    execution = execution or Execution()
    training = _Training(execution.placed(net), data, recipe, seed, execution, metric)
    saved = slot.load() if slot else None
    first = training.restore(saved)
    if saved is not None:
        yield EpochResult(**saved[1]["result"])
    for epoch in range(first, recipe.epochs):
        started = time.perf_counter()
        with torch.random.fork_rng(devices=_cuda_devices(execution)):
            torch.manual_seed(seed * 100_003 + epoch)
            sums = training.epoch(epoch)
        trained = time.perf_counter() - started
        result = training.result(epoch, sums, trained)
        if slot:
            slot.save(*training.checkpoint(result))
        yield result
    net.eval()


@dataclass
class _Sums:
    """Totals of an epoch, kept on the device until someone looks."""

    steps: int = 0
    images: int = 0
    terms: dict[str, Tensor] = field(default_factory=dict)
    correct: Tensor | float = 0.0
    macs: Tensor | float = 0.0
    opened: Tensor | float = 0.0

    def add(self, terms: dict[str, Tensor], output: Output, labels_B: Tensor) -> None:
        self.steps += 1
        self.images += len(labels_B)
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + term.detach()
        self.correct = self.correct + (output.logits_BC.detach().argmax(1) == labels_B).sum()
        self.macs = self.macs + output.macs_B.detach().mean()
        if output.decisions:
            rates = [decision.z_BU.detach().mean() for decision in output.decisions]
            self.opened = self.opened + torch.stack(rates).mean()


class _Training:
    def __init__(
        self,
        net: DynamicNet,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        execution: Execution,
        metric: Metric = ACCURACY,
    ) -> None:
        self.net, self.data, self.recipe = net, data, recipe
        self.seed, self.execution, self.metric = seed, execution, metric
        self.batch = min(recipe.batch, len(data.train))
        # an epoch; the incomplete batch is dropped (batch norm)
        self.steps = len(data.train) // self.batch
        plan = Plan(
            epochs=recipe.epochs,
            steps=self.steps,
            seed=seed,
            label_smoothing=recipe.label_smoothing,
            class_weights=data.class_weights,
        )
        self.objective: Objective = net.objective(plan)
        self.optimizer = optimizer(net, recipe)
        self.forward: nn.Module = torch.compile(net) if execution.compile else net  # type: ignore[assignment]

    def epoch(self, epoch: int) -> _Sums:
        self.net.train()
        self.objective.start_epoch(epoch)
        sums, step = _Sums(), epoch * self.steps
        shuffle = self.seed * 100_003 + epoch
        batches = self.data.train.batches(
            self.batch, device=self.execution.device, shuffle=shuffle, drop_last=True
        )
        for batch in batches:
            set_lr(
                self.optimizer,
                self.recipe.peak_lr
                * lr_factor(self.recipe, step / (self.recipe.epochs * self.steps)),
            )
            images = batch.images
            if self.recipe.augment and not images.is_floating_point():
                pad = max(1, images.shape[-1] // 8)
                images = augmented(images, seed=self.seed, step=step, flip=self.data.flip, pad=pad)
            inputs = network_inputs(images, self.data, self.execution)
            self._step(step, inputs, batch.labels, batch.ids, sums)
            step += 1
            if sums.steps % CHECK_EVERY == 0:
                _check_finite(sums, epoch)
        _check_finite(sums, epoch)
        return sums

    def _step(
        self, step: int, inputs: Tensor, labels_B: Tensor, ids_B: Tensor, sums: _Sums
    ) -> None:
        policy = self.objective.policy(step, ids_B)
        if self.execution.compile and isinstance(policy, Sampled):
            # drawn here, the step's number stays out of the graph and compiles it once only
            _ = policy.noise_BT
        with self.execution.autocast():
            output: Output = self.forward(inputs, policy)
        terms = self.objective.losses(output, labels_B)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.objective.after_step(output)
        sums.add(terms, output, labels_B)

    def result(self, epoch: int, sums: _Sums, seconds: float) -> EpochResult:
        table = evaluate(
            self.net, self.data.validation, self.data, Knobs(), execution=self.execution
        )
        metrics = {f"train/{name}": float(total) / sums.steps for name, total in sums.terms.items()}
        metrics |= {
            "train/loss": sum(metrics.values()),
            "train/accuracy": float(sums.correct) / sums.images,
            "train/macs": float(sums.macs) / sums.steps,
            "train/open": float(sums.opened) / sums.steps,
            "train/images_per_second": sums.images / seconds,
            "val/accuracy": table.accuracy,
            f"val/{self.metric.name}": self.metric.measure(table.answers).value,
            "val/macs": table.macs_mean,
        }
        metrics |= {f"objective/{name}": value for name, value in self.objective.report().items()}
        metrics["objective/settled"] = float(self.objective.settled)
        if (outlook := self.objective.outlook) is not None:
            metrics["objective/outlook"] = outlook
        return EpochResult(epoch + 1, metrics | _gate_summary(table.rates), mean_rates(table.rates))

    def checkpoint(self, last: EpochResult) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"optimizer.{k}": t for k, t in optimizer_tensors(self.optimizer).items()}
        state = {"epochs_done": last.epoch, "seed": self.seed, "objective": self.objective.state()}
        return tensors, state | {"execution": self.execution.as_dict(), "result": asdict(last)}

    def restore(self, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> int:
        """Load a checkpoint; returns how many epochs are done."""
        if saved is None:
            return 0
        tensors, state = saved
        self.net.load_state_dict(net_tensors(tensors))
        load_optimizer(
            self.optimizer,
            {
                k.removeprefix("optimizer."): t
                for k, t in tensors.items()
                if k.startswith("optimizer.")
            },
        )
        self.objective.load(state["objective"])
        return int(state["epochs_done"])


def net_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's state dict out of a checkpoint's tensors."""
    return {k.removeprefix("net."): t for k, t in tensors.items() if k.startswith("net.")}


def _gate_summary(rates: dict[str, tuple[float, ...]]) -> dict[str, float]:
    """Mean open rate, share of gate units that collapsed, mean binary entropy of the rates in bits."""
    units = [rate for gate in rates.values() for rate in gate]
    if not units:
        return {}
    entropy = [-sum(p * math.log2(p) for p in (r, 1 - r) if p > 0) for r in units]
    return {
        "gates/open": sum(units) / len(units),
        "gates/collapsed": sum(r < 0.01 or r > 0.99 for r in units) / len(units),
        "gates/entropy": sum(entropy) / len(units),
    }


def _check_finite(sums: _Sums, epoch: int) -> None:
    for name, total in sums.terms.items():
        if not bool(torch.isfinite(total)):
            raise DivergedError(epoch + 1, name.replace("_", " "))


def _cuda_devices(execution: Execution) -> list[int]:
    return [torch.cuda.current_device()] if execution.device.startswith("cuda") else []
