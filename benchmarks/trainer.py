"""How much of a network's raw training speed the shared trainer keeps.

Times one gated ResNet-20 epoch in `trainers.fit` (augmentation, gates, losses, records and all, validation apart)
beside (a) the same baseline in a bare loop (forward, backward, SGD) over synthetic tensors, the ceiling, in plain
float32 and in the execution that the trainer chose, and (b) the same gated network in a loop over torchvision's
transforms and a DataLoader. Rounds are interleaved; each row is the median images per second, and only the ratios of
one run mean anything.

    python benchmarks/trainer.py                          # two CPU cores: about four minutes
    python benchmarks/trainer.py --device cuda --images 25600

Needs torch, torchvision and numpy only.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.plain_resnet import PlainResNet
from spaces.contract.family import Candidate
from spaces.contract.net import Plan
from spaces.contract.registry import family
from spaces.contract.task import Task
from trainers.execution import Execution, measured
from trainers.optimizer import optimizer

TASK = Task(
    channels=3, height=32, width=32, classes=10, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26)
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=1024, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="of the DataLoader in (b); 0 trains and loads in turn",
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = compare(args.device, args.images, args.rounds, args.batch, args.workers)
    print(json.dumps(result, indent=2) if args.json else as_text(result))


def compare(device: str, images: int, rounds: int, batch: int, workers: int) -> dict[str, Any]:
    """Median images per second of every loop, and the ratios."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (images,), generator=generator)
    gated = Candidate.of(family("gated_resnet"), {"backbone": "resnet20", "batch": batch}, 1)
    chosen = measured(gated.build(TASK, 0), gated.recipe, device)
    plain32 = Execution(device=device)
    loops: dict[str, Callable[[], None]] = {
        "dynafront": dynafront_loop(gated, chosen, pixels, labels, batch),
        "plain float32 (a)": plain_loop(plain32, images, batch),
        "plain as chosen": plain_loop(chosen, images, batch),
        "DataLoader (b)": dataloader_loop(gated, plain32, pixels, labels, batch, workers),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(rounds + 1):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if repeat:  # the first round warms up
                speeds[name].append(images // batch * batch / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ours = speeds["dynafront"]
    ratios = {
        f"dynafront / {name}": statistics.median(a / b for a, b in zip(ours, values, strict=True))
        for name, values in speeds.items()
        if name != "dynafront"
    }
    return {
        "images_per_second": medians,
        "ratios": ratios,
        "execution": chosen.as_dict(),
        "rounds": rounds,
        "images": images,
        "batch": batch,
        "machine": machine(device),
    }


def dynafront_loop(
    candidate: Candidate, execution: Execution, pixels: Tensor, labels: Tensor, batch: int
) -> Callable[[], None]:
    """One training epoch of the shared trainer."""
    from trainers.training import Training

    class Held:
        """The part of trainers.data.splits.Split that training uses, over tensors that lie on the device."""

        def __init__(self) -> None:
            self.images, self.labels = pixels.to(execution.device), labels.to(execution.device)
            self.ids = torch.arange(len(labels), device=execution.device)

        def __len__(self) -> int:
            return len(self.labels)

        def batches(self, size: int, *, device: str, shuffle: int, drop_last: bool) -> Any:
            from trainers.data.splits import Batch

            order = torch.randperm(len(self), generator=torch.Generator().manual_seed(shuffle)).to(
                device
            )
            for start in range(0, len(self) - size + 1, size):
                rows = order[start : start + size]
                yield Batch(self.images[rows], self.labels[rows], self.ids[rows])

    class Data:
        train, flip, mean, std = Held(), True, TASK.mean, TASK.std
        class_weights = None

    net = execution.placed(candidate.build(TASK, 0))
    training = Training(net, Data(), candidate.recipe, 0, execution)  # type: ignore[arg-type]

    def epoch() -> None:
        training.epoch(0)

    return epoch


def plain_loop(execution: Execution, images: int, batch: int) -> Callable[[], None]:
    """Forward, backward and SGD of the baseline over tensors that are ready: nothing else."""
    config = Candidate.of(family("gated_resnet"), {"backbone": "resnet20"}, 1).config
    net = execution.placed(PlainResNet(config, TASK)).train()  # type: ignore[arg-type]
    sgd = torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    x = execution.laid_out(torch.randn(batch, 3, 32, 32, device=execution.device))
    y = torch.randint(0, 10, (batch,), device=execution.device)

    def epoch() -> None:
        for _ in range(images // batch):
            with execution.autocast():
                logits = net(x)
            sgd.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), y).backward()
            sgd.step()

    return epoch


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR-10 hands them out: a PIL image from an array, then transforms."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.arrays = pixels.permute(0, 2, 3, 1).numpy()
        self.labels = labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(TASK.mean, TASK.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def dataloader_loop(
    candidate: Candidate,
    execution: Execution,
    pixels: Tensor,
    labels: Tensor,
    batch: int,
    workers: int,
) -> Callable[[], None]:
    """The same gated network, losses and optimiser over torchvision's way of loading."""
    net = execution.placed(candidate.build(TASK, 0)).train()
    sgd = optimizer(net, candidate.recipe)
    loader = DataLoader(
        Pictures(pixels, labels),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    objective = net.objective(Plan(epochs=1, steps=len(loader)))

    def epoch() -> None:
        for step, (images, targets) in enumerate(loader):
            x, y = images.to(execution.device), targets.to(execution.device)
            output = net(x, objective.policy(step, torch.arange(len(x), device=execution.device)))
            loss = sum(objective.losses(output, y).values())
            sgd.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[union-attr]
            sgd.step()
            objective.after_step(output)

    return epoch


def machine(device: str) -> str:
    what = (
        torch.cuda.get_device_name()
        if device.startswith("cuda")
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return (
        f"{what}; torch {torch.__version__}, torchvision {torchvision.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}"
    )


def as_text(result: dict[str, Any]) -> str:
    lines = [result["machine"], f"trainer's execution: {result['execution']}"]
    lines += [
        f"{name:<28} {speed:>10.0f} images/s" for name, speed in result["images_per_second"].items()
    ]
    lines += [f"{name:<40} {ratio:>6.2f}" for name, ratio in result["ratios"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
