"""On what and in which number format a network trains: chosen by a short measurement, not by belief."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.contract.net import DynamicNet, Plan
from spaces.contract.recipe import Recipe

WARM_UP, STEPS = 2, 4
VECTOR = 16  # floats in the widest CPU register
WORTHWHILE = 0.9  # a setting must take less than this share of plain float32's time to be chosen


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Device, autocast type ("float32" is none), memory format, whether to torch.compile.

    `micro_batch` images are in memory at once, whatever the recipe says; 0: as that says.
    `threads` of the CPU; 0: none were measured.
    """

    device: str = "cpu"
    dtype: str = "float32"
    channels_last: bool = False
    compile: bool = False
    micro_batch: int = 0
    threads: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=getattr(torch, self.dtype))

    def scaler(self) -> torch.amp.GradScaler:
        """What keeps small gradients from becoming 0 in float16; it changes nothing in other number formats."""
        kind = torch.device(self.device).type
        return torch.amp.GradScaler(kind, enabled=self.dtype == "float16")

    def placed(self, net: DynamicNet) -> DynamicNet:
        """The network on the device, its convolutions in the chosen memory format."""
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return net.to(self.device, memory_format=memory_format)  # type: ignore[call-overload]

    def laid_out(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in the chosen memory format."""
        return (
            images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
        )


def best_device() -> str:
    """cuda where there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_precision(precision: str, device: str) -> None:
    """Raise ValueError where a network is not trained in this number format on this device."""
    if precision == "float16" and device == "cpu":
        raise ValueError(
            "run.precision: float16: trains on a GPU, and this is a CPU, which computes float16 slowly; take auto, "
            "bfloat16 or float32"
        )


def options(net: DynamicNet, device: str) -> tuple[Execution, ...]:
    """What is worth measuring for a network on a device, plain float32 first."""
    cuda = device.startswith("cuda")
    dtypes = ["float32", "bfloat16"] if cuda or _has_fast_bfloat16() else ["float32"]
    layouts = [False, True] if cuda or whole_vectors(net) else [False]
    return tuple(
        Execution(device=device, dtype=d, channels_last=last) for d in dtypes for last in layouts
    )


def measured(
    net: DynamicNet,
    recipe: Recipe,
    device: str,
    *,
    without: Collection[Execution] = (),
    trying: Callable[[Execution], None] = lambda _: None,
) -> Execution:
    """The option whose training steps are fastest on this device for this network and batch size.

    Times a few steps of each on a copy with random images, interleaved. Plain float32 wins unless another takes
    less than 0.9 of its time. Those in `without` are not tried; `trying` hears what is about to run, for a process
    that may not outlive it.
    """
    candidates = [one for one in options(net, device) if one not in without]
    images = random_images(net, recipe.batch, device)
    copies = [execution.placed(copy.deepcopy(net)) for execution in candidates]
    seconds = [float("inf")] * len(candidates)
    for repeat in range(WARM_UP + STEPS):
        for index, (one, execution) in enumerate(zip(copies, candidates, strict=True)):
            trying(execution)
            taken = step_seconds(one, execution, images, repeat)
            if repeat >= WARM_UP:
                seconds[index] = min(seconds[index], taken)
    best = min(range(len(candidates)), key=seconds.__getitem__)
    return candidates[best] if seconds[best] < WORTHWHILE * seconds[0] else candidates[0]


def random_images(net: DynamicNet, count: int, device: str) -> Tensor:
    """Images (count, C, H, W) as the network takes them, of noise."""
    task = net.task
    return torch.randn(count, task.channels, task.height, task.width, device=device)


def step_seconds(net: DynamicNet, execution: Execution, images: Tensor, step: int) -> float:
    """How long a step takes, but for the optimizer: images (B, C, H, W) forward, and a loss backward."""
    objective = net.objective(Plan(epochs=1, steps=WARM_UP + STEPS))
    ids = torch.arange(len(images), device=images.device)
    labels = ids % net.task.classes
    _synchronize(images)
    start = time.perf_counter()
    with execution.autocast():
        output = net(execution.laid_out(images), objective.policy(step, ids))
    F.cross_entropy(output.logits_BC.float(), labels).backward()
    _synchronize(images)
    return time.perf_counter() - start


def _synchronize(tensor: Tensor) -> None:
    """Until the GPU of the tensor, if it is on one, has done what it was asked."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def whole_vectors(net: DynamicNet) -> bool:
    """Whether every convolution maps a multiple of 16 channels to a multiple of 16; a larger one may read the image.

    On a CPU with AVX-512, torch 2.15's channels_last backward of others corrupts memory. oneDNN 3.13 writes whole
    vectors of 16 floats behind the end of its scratchpad when it gathers the input of a strided 1x1 convolution with
    fewer channels, as a ResNet's shortcut is. From 48 x 48 pixels on it aborts, or is killed by a segmentation fault,
    with one thread and with two; smaller images may be spoiled in silence:

        conv = torch.nn.Conv2d(8, 16, 1, stride=2, bias=False).to(memory_format=torch.channels_last)
        images = torch.randn(128, 8, 48, 48).to(memory_format=torch.channels_last)
        conv(images).sum().backward()

    Layouts of other than full vectors gain nothing anyway.
    """
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    return all(_in_vectors(m, net.task.channels) for m in convolutions)


def _in_vectors(conv: nn.Conv2d, image_channels: int) -> bool:
    reads_image = conv.in_channels == image_channels and min(conv.kernel_size) > 1
    return conv.out_channels % VECTOR == 0 and (conv.in_channels % VECTOR == 0 or reads_image)


def _has_fast_bfloat16() -> bool:
    # without these instructions oneDNN emulates bfloat16 in float32; it never wins and is slow to measure
    cpu = torch.backends.cpu.get_cpu_capability()
    return "AMX" in cpu or bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
