"""Many small trainings as one: what it gives to train N networks of one architecture in one batched step.

The networks differ in numbers only: seed, learning rate, target and weight of the gates' loss. Their weights are
stacked (`torch.func.stack_module_state`), `vmap` runs them as one, and each has its own noise of gates, batch-norm
statistics and learning rate. The same N trainings one after another are timed beside, step by step in turn; medians
are shown, and only the ratios of one run mean anything. How far the weights are apart after the steps is the largest
difference over the largest weight.

Measured on one thread of a busy two-core AMD EPYC (CPU time, medians of 5 steps), torch 2.15, digits, batches of 64:
gated ResNet-8 at half width, 2, 4, 8, 16 and 32 networks: 1.06, 1.64, 2.09, 2.20 and 2.48 times as fast as in turn.
Eight networks at a quarter of the width in batches of 32: 2.84, with gates on filters 1.95, on both 2.09; of a
ResNet-20 at full width: 1.39.

Fused and alone, weights differ by rounding alone, until a gate's logit is so near its threshold that rounding decides
it: one image then takes another way, and the two trainings part. Largest differences of four ResNet-8 of a quarter of
the width, batches of 32 (`--apart`): in float32 6e-8 after 1 step and 2e-7 after 10; two of them parted within 100
steps, by up to 0.16, the other two differ by 7e-7. In float64 6e-17 after 1 step and 6e-15 after 100,
for all four.

So a trial's weights depend on which others it was fused with, and one that goes on alone, or is trained again, is not
the same training to the bit. That is why a search fuses trials only where the study file asks for it (`run: {fused:
N}`, see trainers/fused.py). There each trial keeps an optimiser, an objective and an order of images of its own, which
costs more than the one batched optimiser of this file; benchmarks/fused_search.py measures a whole search.

Trainings fused over one device: Wang, Yang, Zhao, Zheng, Zhang, Venkataraman, Liu and Xu, "Horizontally Fused Training
Array: An Effective Hardware Utilization Squeezer for Training Novel Deep Learning Models", MLSys, 2021, which writes a
fused form of each layer; here vmap derives it.

    python benchmarks/fused.py                                       # digits: 8x8 grey images, batches of 64
    python benchmarks/fused.py --apart --models 4 --width 0.25 --batch 32
    python benchmarks/fused.py --device cuda --models 4 16 64 --backbone resnet20 --side 32 --steps 20
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, stack_module_state

from spaces.contract.family import Candidate
from spaces.contract.net import DynamicNet
from spaces.contract.noise import logistic_noise
from spaces.contract.policies import Drawn
from spaces.contract.registry import family
from spaces.contract.task import Task

WARM_UP = 2
MOMENTUM = 0.9
SHOWN = (1, 10, 100)  # steps after which weights are compared


@dataclass(frozen=True)
class Numbers:
    """What tells the trainings apart, one of each a network: (N,)."""

    lr: Tensor
    weight: Tensor
    target: Tensor

    @classmethod
    def of(cls, models: int, device: str, dtype: torch.dtype = torch.float32) -> Numbers:
        steps = torch.linspace(0, 1, models, device=device, dtype=dtype)
        return cls(0.01 + 0.09 * steps, 0.1 + steps, 0.3 + 0.6 * steps)


def main() -> None:
    args = arguments()
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    sizes = f"batch {args.batch}, {args.channels} x {args.side} x {args.side}"
    print(f"{where}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(
        f"gated_resnet {args.backbone}, width {args.width}, gates of {args.granularity}s, {sizes}"
    )
    if args.apart:
        for dtype in (torch.float32, torch.float64):
            for step, distances in apart_after(args.models[0], dtype, args):
                print(f"{dtype}, {step:>3} steps: " + " ".join(f"{d:.1e}" for d in distances))
        return
    print(
        f"{'networks':>8} {'ms, in turn':>12} {'ms, fused':>10} {'faster':>7} {'weights apart':>14}"
    )
    for models in args.models:
        print(row(models, args), flush=True)


def row(models: int, args: argparse.Namespace) -> str:
    """One line of the table: so many networks in turn and fused, from the same weights over the same batches."""
    nets, alone, fused = trainings(models, torch.float32, args)
    turn, together = list[float](), list[float]()
    for step in range(WARM_UP + args.steps):
        given = batch(step, nets, args)
        turn.append(sum(seconds(partial(one.step, *given), args) for one in alone))
        together.append(seconds(partial(fused.step, *given), args))
    one_by_one, as_one = (1000 * statistics.median(one[WARM_UP:]) for one in (turn, together))
    apart = max(fused.apart(one.net, i) for i, one in enumerate(alone))
    faster = one_by_one / as_one
    return f"{models:>8} {one_by_one:>12.1f} {as_one:>10.1f} {faster:>7.2f} {apart:>14.1e}"


def trainings(
    models: int, dtype: torch.dtype, args: argparse.Namespace
) -> tuple[list[DynamicNet], list[Alone], Fused]:
    """So many networks; each to be trained alone, and all fused, from the same weights."""
    task = Task(channels=args.channels, height=args.side, width=args.side, classes=10)
    values = {"backbone": args.backbone, "width": args.width, "granularity": args.granularity}
    candidate = Candidate.of(family("gated_resnet"), values, 1)
    built = [candidate.build(task, seed) for seed in range(models)]
    nets = [net.to(args.device, dtype).train() for net in built]
    numbers = Numbers.of(models, args.device, dtype)
    alone = [Alone(copy.deepcopy(net), numbers, i) for i, net in enumerate(nets)]
    return nets, alone, Fused(nets, numbers)


def apart_after(
    models: int, dtype: torch.dtype, args: argparse.Namespace
) -> Iterator[tuple[int, list[float]]]:
    """After some steps, the largest difference of a weight between fused and alone, of each network."""
    nets, alone, fused = trainings(models, dtype, args)
    for step in range(1, SHOWN[-1] + 1):
        images, labels, noise = batch(step, nets, args)
        given = images.to(dtype), labels, noise.to(dtype)
        fused.step(*given)
        for one in alone:
            one.step(*given)
        if step in SHOWN:
            yield step, [fused.difference(one.net, i) for i, one in enumerate(alone)]


def batch(
    step: int, nets: Sequence[DynamicNet], args: argparse.Namespace
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, B, ...), labels (N, B) and noise of gates (N, B, T) of a step: each network has its own order."""
    draw = torch.Generator().manual_seed(step)
    shape = len(nets), args.batch
    images = torch.randn(*shape, args.channels, args.side, args.side, generator=draw)
    labels = torch.randint(10, shape, generator=draw)
    units = sum(gate.units for gate in nets[0].gates)
    ids = torch.arange(args.batch)
    noise = torch.stack([logistic_noise(seed, step, ids, units) for seed in range(len(nets))])
    device = args.device
    return images.to(device), labels.to(device), noise.to(device)


def loss_of(
    net: DynamicNet,
    state: dict[str, Tensor],
    inputs: tuple[Tensor, Tensor, Tensor],
    wanted: tuple[Tensor, Tensor],
) -> Tensor:
    """The loss of one network with this state: of its answers, and of its compute beside the target's."""
    (images, labels, noise), (weight, target) = inputs, wanted
    ids = torch.arange(len(labels), device=labels.device)
    policy = Drawn(seed=0, step=0, ids_B=ids, units=noise.shape[1], drawn=noise)
    output = functional_call(net, state, (images, policy))
    share = output.macs_B.mean() / net.plain_macs
    return F.cross_entropy(output.logits_BC, labels) + weight * (share - target) ** 2


class Alone:
    """One network, trained by itself."""

    def __init__(self, net: DynamicNet, numbers: Numbers, index: int) -> None:
        self.net, self.index = net, index
        self.state = dict(net.named_parameters()) | dict(net.named_buffers())
        self.wanted = numbers.weight[index], numbers.target[index]
        lr = float(numbers.lr[index])
        self.optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=MOMENTUM)

    def step(self, images: Tensor, labels: Tensor, noise: Tensor) -> None:
        inputs = images[self.index], labels[self.index], noise[self.index]
        self.optimizer.zero_grad()
        loss_of(self.net, self.state, inputs, self.wanted).backward()
        self.optimizer.step()


class Fused:
    """All networks as one: the sum of their losses has the gradients of each."""

    def __init__(self, nets: Sequence[DynamicNet], numbers: Numbers) -> None:
        self.params, self.buffers = stack_module_state(list(nets))
        self.wanted = numbers.weight, numbers.target
        with torch.device("meta"):
            self.skeleton = copy.deepcopy(nets[0])
        self.rates = numbers.lr
        # the learning rate is each network's own: it multiplies the gradients
        self.optimizer = torch.optim.SGD(self.params.values(), lr=1.0, momentum=MOMENTUM)

    def step(self, images: Tensor, labels: Tensor, noise: Tensor) -> None:
        self.optimizer.zero_grad()
        losses = torch.vmap(self._loss)(
            self.params, self.buffers, (images, labels, noise), self.wanted
        )
        losses.sum().backward()
        for p in self.params.values():
            if p.grad is not None:
                p.grad *= self.rates.view(-1, *[1] * (p.ndim - 1))
        self.optimizer.step()

    def _loss(
        self,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        inputs: tuple[Tensor, Tensor, Tensor],
        wanted: tuple[Tensor, Tensor],
    ) -> Tensor:
        return loss_of(self.skeleton, params | buffers, inputs, wanted)

    def apart(self, net: DynamicNet, index: int) -> float:
        """How far this network's weights are from those of the same one, trained alone."""
        own = dict(net.named_parameters())
        return max(
            float((own[name] - p[index]).detach().abs().max() / own[name].detach().abs().max())
            for name, p in self.params.items()
        )

    def difference(self, net: DynamicNet, index: int) -> float:
        """The largest difference of a weight from that of the same network, trained alone."""
        own = dict(net.named_parameters())
        pairs = [(own[name].detach(), p[index].detach()) for name, p in self.params.items()]
        return max(float((one - other).abs().max()) for one, other in pairs)


def seconds(action: Callable[[], None], args: argparse.Namespace) -> float:
    """How long it takes, the device's work included; of a CPU its time, which other programs disturb less."""
    begin = time.perf_counter() if args.device == "cuda" else time.process_time()
    action()
    if args.device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter() - begin
    return time.process_time() - begin


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--backbone", default="resnet8")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--granularity", default="layer")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=8)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="only how far weights come apart")
    return parser.parse_args()


if __name__ == "__main__":
    main()
