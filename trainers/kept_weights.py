"""The weights that a training hands over: the last ones or their moving average, of the last or of the best epoch.

Moving averages of weights: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal
on Control and Optimization, 1992; timm's ModelEmaV3, its memory short at first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe

EMA, BEST, LIVE = "ema.", "best.", "live."  # before the names of tensors in a checkpoint


class KeptWeights:
    """What is measured and exported of a training, beside the weights that it goes on with.

    `epoch` is the one, from 1, whose weights are handed over; 0 before the first.
    """

    def __init__(self, net: DynamicNet, recipe: Recipe) -> None:
        self.net, self.by_loss = net, recipe.kept_epoch == "least_cross_entropy"
        self.keeps_best = recipe.kept_epoch != "last"
        self.constant = net.constant_names()
        self.average = None
        if recipe.ema:
            from timm.utils import ModelEmaV3

            self.average = ModelEmaV3(net, decay=recipe.ema, use_warmup=True)
        self.best: dict[str, Tensor] | None = None
        self.best_value = -math.inf
        self.epoch = 0

    def after_step(self, step: int) -> None:
        """Called after each step of the optimiser, counted from 0."""
        if self.average is not None:
            self.average.update(self.net, step=step + 1)

    def after_epoch(
        self, epoch: int, accuracy: float, cross_entropy: float, *, settled: bool
    ) -> None:
        """What this epoch's weights are worth on validation, and whether their compute is the training's last one.

        An epoch whose gates still close costs more than the network at the end, so it is not the best.
        """
        value = -cross_entropy if self.by_loss else accuracy
        if not self.keeps_best or not settled:
            self.epoch = epoch if self.best is None else self.epoch
        elif self.best is None or value > self.best_value:
            self.best = {name: tensor.clone() for name, tensor in self._own().items()}
            self.best_value, self.epoch = value, epoch

    @contextmanager
    def of_this_epoch(self) -> Iterator[None]:
        """The network with the weights that this epoch ended with, averaged if they are."""
        with self._in_place(self._own() if self.average is not None else None):
            yield

    @contextmanager
    def handed_over(self) -> Iterator[None]:
        """The network with the weights that the training would hand over now."""
        with self._in_place(self._kept()):
            yield

    def hand_over(self) -> None:
        """Leave the network with these weights for good."""
        if (kept := self._kept()) is not None:
            self.net.load_state_dict(kept)

    def tensors(self) -> dict[str, Tensor]:
        """All of the training's weights by name; those handed over come under `net.`, as inference reads them."""
        kept, live = self._kept(), self.net.state_dict()
        found = {f"net.{name}": tensor for name, tensor in (kept or live).items()}
        if kept is not None:
            found |= self._changing(LIVE, live)
        if self.average is not None and self.best is not None:
            found |= self._changing(EMA, self._own())
        return found

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "best": None if self.best is None else self.best_value}

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from what `tensors` and `state` returned."""
        kept = part(tensors, "net.")
        self.net.load_state_dict(kept | part(tensors, LIVE))
        if self.average is not None:
            self.average.module.load_state_dict(kept | part(tensors, EMA))
        if state.get("best") is not None:
            self.best = {name: kept[name].to(t.device) for name, t in self.net.state_dict().items()}
            self.best_value = float(state["best"])
        self.epoch = int(state.get("epoch", 0))

    def _changing(self, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Further weights, without those that are the same in all of them."""
        return {
            f"{prefix}{name}": tensor
            for name, tensor in tensors.items()
            if name not in self.constant
        }

    def _own(self) -> dict[str, Tensor]:
        of = self.net if self.average is None else self.average.module
        return dict(of.state_dict())

    def _kept(self) -> dict[str, Tensor] | None:
        """None where the network has these weights itself."""
        if self.best is not None:
            return self.best
        return None if self.average is None else self._own()

    @contextmanager
    def _in_place(self, weights: dict[str, Tensor] | None) -> Iterator[None]:
        if weights is None:
            yield
            return
        live = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
        self.net.load_state_dict(weights)
        try:
            yield
        finally:
            self.net.load_state_dict(live)


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
