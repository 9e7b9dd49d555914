"""With how many threads a network trains on a CPU: chosen by a short measurement, not by belief.

The parts of a small network's operations are so short that threads wait for each other longer than they compute.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

from torch import Tensor

from spaces.contract.net import DynamicNet
from spaces.contract.recipe import Recipe
from trainers.execution import Execution, random_images, step_seconds
from trainers.latency import torch_threads

STEPS = 3  # in a row, of which the fastest counts
ENOUGH = 0.3  # seconds of such steps
SECONDS = 1.0  # that further rounds may take
ROUNDS = 5  # at most
HOPELESS = 1.5  # times what the fastest takes: not timed again
AS_FAST = 1.05  # times what the fastest takes: not worth the threads that it takes more


def counts(most: int) -> list[int]:
    """Numbers of threads that are worth measuring: `most`, then powers of two below it."""
    return [most, *(2**power for power in reversed(range(20)) if 2**power < most)]


def measured_threads(
    net: DynamicNet,
    recipe: Recipe,
    execution: Execution,
    most: int,
    *,
    trying: Callable[[], None] = lambda: None,
) -> int:
    """The fewest threads, up to `most`, with which training steps on this CPU are about as fast as with any number.

    Times steps with fewer and fewer threads, on a copy with random images, until that makes them much slower; then
    those that are not hopeless again in turns, for about a second. PyTorch has as many threads afterwards as before.
    `trying` is called before steps.
    """
    if most == 1:
        return 1
    one, images = execution.placed(copy.deepcopy(net)), random_images(net, recipe.batch, "cpu")

    def seconds_with(threads: int) -> float:
        trying()
        return _seconds(one, execution, images, threads)

    seconds: dict[int, float] = {}
    for threads in counts(most):
        seconds[threads] = seconds_with(threads)
        if seconds[threads] > HOPELESS * min(seconds.values()):
            break
    near = [n for n, taken in seconds.items() if taken <= HOPELESS * min(seconds.values())]
    end = time.monotonic() + SECONDS
    for _ in range(ROUNDS if len(near) > 1 else 0):
        for threads in near:
            if time.monotonic() < end:
                seconds[threads] = min(seconds[threads], seconds_with(threads))
    return fewest(seconds)


def fewest(seconds: dict[int, float]) -> int:
    """Of numbers of threads with the seconds of a step, the smallest that is about as fast as the fastest."""
    fastest = min(seconds.values())
    return min(threads for threads, taken in seconds.items() if taken <= AS_FAST * fastest)


def _seconds(net: DynamicNet, execution: Execution, images: Tensor, threads: int) -> float:
    """Of the fastest of a few steps, after one that starts the threads."""
    taken: list[float] = []
    with torch_threads(threads):
        step_seconds(net, execution, images, 0)
        while len(taken) < STEPS and sum(taken) < ENOUGH:
            taken.append(step_seconds(net, execution, images, 1 + len(taken)))
    return min(taken)
