"""What every family does on a GPU: the CPU's answers, the time of a training step, the time that skipping saves.

For each family's recommended network, with random weights: how far its logits are from the CPU's; milliseconds of a
training step beside the static network's; images a second with everything computed and with what is skipped left out.
Steps are interleaved, medians are shown, and only the ratios of one run mean anything.

    python benchmarks/gpu.py                              # needs torch, torchvision, timm, numpy and pyarrow only
    python benchmarks/gpu.py --device cpu --batch 32 --steps 3 --family gated_resnet
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.contract.exit_rules import ExitRule
from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet, Plan
from spaces.contract.policies import AlwaysOn, Policy, Threshold
from spaces.contract.registry import families
from spaces.contract.task import Task

VALUES: dict[str, dict[str, Any]] = {"timm": {"backbone": "resnet18", "stem": "small"}}
WARM_UP = 3


def main() -> None:
    args = arguments()
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}, batch {args.batch}, {args.side} px")
    print(f"{'':16} {'from the CPU':>12} {'step ms':>8} {'static':>8} {'ratio':>6}", end="  ")
    print("images/s: all computed, skipped (share of MACs)")
    for name in args.family or sorted(families()):
        print(row(name, args), flush=True)


def row(name: str, args: argparse.Namespace) -> str:
    """One family's line of the table."""
    sizes = {"channels": 3, "height": args.side, "width": args.side, "classes": 10}
    task = Task(**sizes, mean=(0.5,) * 3, std=(0.25,) * 3)
    candidate = Candidate.of(families()[name], VALUES.get(name, {}), 1)
    net = candidate.build(task, 0)
    images = torch.randn(args.batch, 3, args.side, args.side)
    with torch.inference_mode():
        expected = net.eval()(images[:8], AlwaysOn()).logits_BC
    static = candidate.baseline().build(task, 0).to(args.device)
    net, images = net.to(args.device), images.to(args.device)
    with torch.inference_mode():
        found = net(images[:8], AlwaysOn()).logits_BC.cpu()
    apart = float((found - expected).norm() / expected.norm())
    training = [step_of(one, images) for one in (net, static)]
    ours, theirs = times(training, args)
    net.eval()
    policy = deciding(net, images)
    validating = [partial(answered, net, images, policy, compact) for compact in (False, True)]
    masked, compact = times(validating, args)
    with torch.inference_mode():
        share = float(net(images, policy).macs_B.mean()) / net.plain_macs
    return (
        f"{name:16} {apart:12.1e} {ours:8.1f} {theirs:8.1f} {ours / theirs:6.2f}  "
        f"{1e3 * args.batch / masked:,.0f}, {1e3 * args.batch / compact:,.0f} ({share:.0%})"
    )


@torch.inference_mode()
def deciding(net: DynamicNet, images: Tensor) -> Policy:
    """Every second gate closes, and at each exit half of the images are sure enough to leave."""
    taus = {gate.name: float(number % 2) for number, gate in enumerate(net.gates)}
    if not net.exit_count or any(gate.kind == "exit" for gate in net.gates):
        return Threshold(tau=taus)
    exits = net(images, AlwaysOn(exits=ExitRule(every=True))).exits
    assert exits is not None
    early = exits.logits[: net.exit_count]
    levels = tuple(float(one.softmax(1).amax(1).median()) for one in early)
    return Threshold(tau=taus, exits=ExitRule(thresholds=levels))


def step_of(net: DynamicNet, images: Tensor) -> Callable[[], None]:
    """A training step of the network's own objective, with plain SGD."""
    net = copy.deepcopy(net).train()
    labels, ids = (torch.arange(len(images), device=images.device) for _ in range(2))
    objective = net.objective(Plan(epochs=1, steps=1000))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)

    def step() -> None:
        output = net(images, objective.policy(0, ids))
        losses = objective.losses(output, labels % 10)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


@torch.inference_mode()
def answered(net: DynamicNet, images: Tensor, policy: Policy, compact: bool) -> None:
    """One pass of validation."""
    F.softmax(net(images, policy, compact=compact).logits_BC, 1)


def times(runs: Sequence[Callable[[], None]], args: argparse.Namespace) -> list[float]:
    """Median milliseconds of each, run in turns."""
    taken: list[list[float]] = [[] for _ in runs]
    for turn in range(WARM_UP + args.steps):
        for run, own in zip(runs, taken, strict=True):
            wait(args.device)
            started = time.perf_counter()
            run()
            wait(args.device)
            if turn >= WARM_UP:
                own.append(1e3 * (time.perf_counter() - started))
    return [statistics.median(own) for own in taken]


def wait(device: str) -> None:
    """Until the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--family", choices=sorted(families()), action="append")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--steps", type=int, default=20, help="timed, of each")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu tries the script")
    return args


if __name__ == "__main__":
    main()
