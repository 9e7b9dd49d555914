"""Time of inference, several callables measured side by side."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

FEWEST = 3  # runs that are measured however long they take
SURE = 0.02  # of the median: how wide its 95 % interval is to either side, where more runs would tell no more


class Latency(NamedTuple):
    """Milliseconds of a run: the median, and the ends of the middle half of all runs.

    `mean` is over inputs, of the median of the runs of each: inputs may differ, moods of the machine must not count.
    """

    median: float
    low: float
    high: float
    mean: float


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch with so many threads, as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def latencies_ms(
    callables: Sequence[Callable[[Tensor], object]],
    inputs: Sequence[Tensor | tuple[Tensor, ...]],
    *,
    warm_up: int = 20,
    repeats: int = 100,
    seconds: float = inf,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Latency]:
    """Milliseconds of each callable over the inputs, interleaved so that they share the machine's moods.

    Input k of a round is the same for every callable, for what a dynamic network computes depends on the image; or a
    tuple with one for each, the image as each takes it. After `seconds` a few runs are enough, and once all inputs were
    taken, as many as tell the medians surely. `clock` tells seconds.
    """
    taken: list[list[float]] = [[] for _ in callables]
    of_input: list[int] = []
    begun = time.perf_counter()
    with torch.inference_mode():
        for repeat in range(warm_up + repeats):
            late = time.perf_counter() - begun > seconds
            enough = FEWEST if late else max(FEWEST, len(inputs))
            if len(taken[0]) >= enough and (late or all(map(_is_known, taken))):
                break
            batch = inputs[repeat % len(inputs)]
            kept = late or repeat >= warm_up
            if kept:
                of_input.append(repeat % len(inputs))
            for index, function in enumerate(callables):
                own = batch[index] if isinstance(batch, tuple) else batch
                spent = _milliseconds(function, own, clock)
                if kept:
                    taken[index].append(spent)
    return [_summary(times, of_input) for times in taken]


def _milliseconds(
    function: Callable[[Tensor], object], batch: Tensor, clock: Callable[[], float]
) -> float:
    _synchronize(batch)
    start = clock()
    function(batch)
    _synchronize(batch)
    return 1000 * (clock() - start)


def _is_known(times: Sequence[float]) -> bool:
    """Whether the median of all runs lies within SURE of that of these, with 95 % confidence, were they normal."""
    low, median, high = _quarters(times)
    deviation = (high - low) / 1.35
    error = 1.25 * deviation / math.sqrt(len(times))
    return 1.96 * error <= SURE * median


def _quarters(times: Sequence[float]) -> list[float]:
    return statistics.quantiles(times, n=4, method="inclusive")


def _summary(times: Sequence[float], of_input: Sequence[int]) -> Latency:
    low, median, high = _quarters(times)
    runs: dict[int, list[float]] = {}
    for which, spent in zip(of_input, times, strict=True):
        runs.setdefault(which, []).append(spent)
    mean = statistics.fmean(map(statistics.median, runs.values()))
    return Latency(median, low, high, mean)


def _synchronize(batch: Tensor) -> None:
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
