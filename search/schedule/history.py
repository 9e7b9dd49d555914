"""What was reported of a study so far: all that samplers, stopping rules and training lengths decide from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from search.front.curves import Curve, losses_within, own_front
from spaces.contract.space import Value
from storage.records import State

Params = Mapping[str, Value]  # of a trial, as Optuna names them: "family", "gated_resnet.width"


@dataclass(frozen=True)
class Training:
    """What is known of one trial: its parameters, its length, and its latest curve.

    `chosen` are the losses of the setting that the network was trained for. A trial that repeats an equal one has
    that one's curve.
    """

    params: Params
    full: bool = False  # of full length, where there are two lengths
    state: State = State.RUNNING
    epoch: int = 0  # after which it was measured last; 0: not yet
    curve: Curve | None = None
    chosen: tuple[float, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it was trained to its end."""
        return self.state == State.COMPLETE


@dataclass
class History:
    """Every trial that was suggested, by number; curves of baselines; and the corner of the region that counts."""

    corner: Curve  # (D,) the worst losses that count: accuracy, then costs
    trials: dict[int, Training] = field(default_factory=dict)
    baselines: list[Curve] = field(default_factory=list)

    @classmethod
    def empty(cls, costs: int) -> History:
        return cls(np.ones(1 + costs))

    def update(self, number: int, training: Training) -> Training:
        self.trials[number] = training
        return training

    def measured_trials(self) -> dict[int, Training]:
        """The trials with a curve, in the order of their numbers; failed ones have none."""
        known = sorted(self.trials.items())
        return {number: one for number, one in known if one.curve is not None}

    def failed(self, number: int) -> Training:
        """The trial ended without a result; what was seen of it on the way is on no front."""
        return self.update(
            number, replace(self.trials[number], state=State.FAILED, curve=None, chosen=())
        )

    def front_within(
        self, trials: Mapping[int, Training], budgets_BK: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(B,) the least accuracy loss within each budget of costs, of these trials and of all baselines."""
        curves = [one.curve for one in trials.values() if one.curve is not None]
        front = own_front(np.concatenate([*curves, *self.baselines]))
        return losses_within(front, budgets_BK)
