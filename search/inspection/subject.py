"""What pictures are measured from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from search.inspection.forward_pass import Effort, ForwardPass
from search.inspection.layer_places import LayerPlaces, layer_places
from spaces.contract.net import DynamicNet
from trainers.data.augment import normalized
from trainers.data.splits import ImageData
from trainers.execution import Execution


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained network in eval mode, its data, and what one pass over images of validation showed."""

    net: DynamicNet
    data: ImageData
    seen: ForwardPass
    execution: Execution
    effort: Effort
    seed: int

    @cached_property
    def pixels_BCHW(self) -> Tensor:
        """The first batch of the pass, as the network takes it."""
        return self.execution.laid_out(normalized(self.seen.first, self.data.mean, self.data.std))

    @cached_property
    def layer_places(self) -> LayerPlaces | None:
        """What layers do at every place; None where they were not trained to move. Run once for all pictures."""
        with self.execution.autocast():
            return layer_places(self.net, self.pixels_BCHW[: self.effort.moved], seed=self.seed)
