"""Processes that train one network together: each reads its part of every batch, and their gradients are averaged.

Torch's DistributedDataParallel: Li, Zhao, Varma, Salpekar, Noordhuis, Li, Paszke, Smith, Vaughan, Damania and Chintala,
"PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB, 2020. A part is trained as if it were a
micro-batch: batch norms see it alone, and so do losses of a batch's mean. After each epoch, the running statistics of
norms are averaged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spaces.contract.net import Objective, Output
from trainers.data.part import WHOLE, Part
from trainers.epoch_sums import EpochSums

Terms = dict[str, Tensor]
# what says whether each forward pass takes the first process's buffers, in later torch and in earlier
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
SEEDS = 2**31  # more than any seed is: from there on are those of other processes


class Together:
    """This process among those of torch's default process group; alone there is nobody to agree with.

    The first process has `partners`, which train each epoch that it begins.
    """

    def __init__(self, part: Part = WHOLE, partners: Sequence[Connection] = ()) -> None:
        self.part, self.partners = part, partners
        self._parallel: DistributedDataParallel | None = None

    @property
    def alone(self) -> bool:
        return self.part.count == 1

    def seed(self, seed: int) -> int:
        """A seed of this process's own; the first one's is the seed itself."""
        return seed + self.part.number * SEEDS

    def batch(self, images: int) -> int:
        """The batch nearest to so many images, not more, of which all processes have equal parts."""
        if images < self.part.count:
            raise ValueError(
                f"a batch of {images} images cannot be divided among {self.part.count} processes"
            )
        return images - images % self.part.count

    def join(self, net: nn.Module) -> None:
        """Train this network, from the weights that it has in the first process."""
        if not self.alone:
            options: dict[str, Any] = {"find_unused_parameters": True, _SYNC_BUFFERS: False}
            self._parallel = DistributedDataParallel(_Called(net), **options)

    def begin(self, epoch: int) -> None:
        """Let the partners train the epoch of this number, from 0."""
        for partner in self.partners:
            partner.send(epoch)

    def adding(self, last: bool) -> AbstractContextManager[None]:
        """Forward and backward passes whose gradients add up here; those of the last one are averaged."""
        if self._parallel is None or last:
            return nullcontext()
        return self._parallel.no_sync()

    def losses(self, of: Callable[[], tuple[Terms, Output]]) -> tuple[Terms, Output]:
        """What `of` gives: the terms of the loss, from a forward pass of the network that was joined."""
        if self._parallel is None:
            return of()
        terms, seen = self._parallel(of)
        return terms, seen.output

    def agree(self, objective: Objective) -> None:
        """Give the objective the state that it has in the first process."""
        if self.alone:
            return
        state = [objective.state()]
        dist.broadcast_object_list(state, src=0)
        objective.load(state[0])

    def summed(self, sums: EpochSums) -> EpochSums:
        """The sums of all processes, each over its part of the images."""
        if self.alone:
            return sums
        names, count = sorted(sums.terms), self.part.count
        device = next(iter(sums.terms.values())).device
        values = [*(sums.terms[name] for name in names), sums.macs, sums.opened, sums.correct]
        total = torch.stack([torch.as_tensor(v, device=device).double() for v in values])
        dist.all_reduce(total)
        *terms, macs, opened = (total[:-1] / count).unbind()
        return EpochSums(
            steps=sums.steps,
            images=count * sums.images,
            terms=dict(zip(names, terms, strict=True)),
            correct=total[-1],
            macs=macs,
            opened=opened,
        )

    def average_norms(self, net: nn.Module) -> None:
        """Give norms the mean of their running statistics in all processes."""
        found = [] if self.alone else list(_statistics(net))
        if not found:
            return
        total = torch.cat([tensor.flatten() for tensor in found])
        dist.all_reduce(total)
        parts = (total / self.part.count).split([tensor.numel() for tensor in found])
        for tensor, mean in zip(found, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))


class _Called(nn.Module):
    """Calls what it is given, as the forward pass of a module that has the network's parameters."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, of: Callable[[], tuple[Terms, Output]]) -> tuple[Terms, _Seen]:
        terms, output = of()
        return terms, _Seen(output)


class _Seen:
    """Hides an output: gradients are expected of every tensor that is found in what a forward pass returns."""

    def __init__(self, output: Output) -> None:
        self.output = output


def _statistics(net: nn.Module) -> Iterator[Tensor]:
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            yield from (module.running_mean, module.running_var)  # type: ignore[misc]
