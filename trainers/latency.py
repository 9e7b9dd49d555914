"""Wall-clock time of inference, several callables measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def latencies_ms(
    callables: Sequence[Callable[[Tensor], object]],
    inputs: Sequence[Tensor],
    *,
    warm_up: int = 20,
    repeats: int = 100,
) -> list[float]:
    """Median milliseconds of each callable over the inputs, interleaved so that they share the machine's moods.

    Input k of a round is the same for every callable: what a dynamic network computes depends on the image.
    """
    taken: list[list[float]] = [[] for _ in callables]
    with torch.inference_mode():
        for repeat in range(warm_up + repeats):
            batch = inputs[repeat % len(inputs)]
            for index, function in enumerate(callables):
                _synchronize(batch)
                start = time.perf_counter()
                function(batch)
                _synchronize(batch)
                if repeat >= warm_up:
                    taken[index].append(1000 * (time.perf_counter() - start))
    return [statistics.median(times) for times in taken]


def _synchronize(batch: Tensor) -> None:
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
