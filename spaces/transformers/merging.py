"""One network out of several that were trained apart: layers drawn from them, or all of them asked.

Merged models: Freiberger, Kun, Løvlie and Risi, "LayerShuffle: Enhancing Robustness in Vision Transformers by
Randomizing Layer Execution Order", 2024. Differs: stem, positions, norm and heads are the mean of the donors'
parameters (the paper leaves open whose they are), and there may be fewer donors than layers.

Shapes: B images, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet, Output
from spaces.contract.noise import permutation
from spaces.contract.policies import Policy

_OF_A_LAYER = (
    "layers",
    "oracles",
    "places",
    "place_heads",
)  # modules that go where their layer goes


def donors_of(seed: int, draw: int, layers: int, donors: int) -> tuple[int, ...]:
    """For each layer the number of the network that gives it; every donor equally often, as far as that goes.

    With as many donors as layers, each gives exactly one. The same for equal seed and draw.
    """
    order = permutation(seed, draw, max(layers, donors))
    return tuple(number % donors for number in order[:layers])


def merged(nets: Sequence[DynamicNet], draw: Sequence[int]) -> DynamicNet:
    """A new network whose layer l is that of `nets[draw[l]]`, in eval mode; the rest is the mean of all of them.

    The networks should descend from one: means of unrelated parameters mean nothing. Raises ValueError for networks
    that cannot be merged.
    """
    first = nets[0]
    if not first.movable_layers:
        raise ValueError(
            "the layers of these networks cannot change places; merge networks of family shuffled_vit"
        )
    if len(draw) != first.movable_layers:
        raise ValueError(
            f"draw: {len(draw)} donors for {first.movable_layers} layers; give one a layer"
        )
    if not all(0 <= donor < len(nets) for donor in draw):
        raise ValueError(f"draw: {list(draw)} has donors beyond the {len(nets)} networks")
    states = [net.state_dict() for net in nets]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(one != shapes[0] for one in shapes):
        raise ValueError("these networks differ in their parameters; merge networks of one config")
    shared = _shared(first)
    tensors = {}
    for name in states[0]:
        layer = None if name in shared else _layer(name)
        tensors[name] = (
            _mean([state[name] for state in states]) if layer is None else states[draw[layer]][name]
        )
    net = copy.deepcopy(first)
    net.load_state_dict(tensors)
    return net.eval()


class Ensemble(DynamicNet):
    """Several networks asked about every image: the mean of their logits, the sum of their MACs.

    Where answers depend on a draw (of gates, of orders), each network has its own.
    """

    def __init__(self, nets: Sequence[DynamicNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.task = nets[0].task
        self.plain_macs = sum(net.plain_macs for net in nets)

    def forward(
        self, images: Tensor, policy: Policy | None = None, *, compact: bool = False
    ) -> Output:
        return _averaged([net(images, policy, compact=compact) for net in self.nets])

    def run(
        self,
        images: Tensor,
        knobs: Knobs,
        *,
        ids: Tensor | None = None,
        rates: Rates | None = None,
        seed: int = 0,
        step: int = 0,
        compact: bool = False,
    ) -> Output:
        outputs = []
        for number, net in enumerate(self.nets):
            assert isinstance(net, DynamicNet)
            own = seed * len(self.nets) + number
            outputs.append(
                net.run(images, knobs, ids=ids, rates=rates, seed=own, step=step, compact=compact)
            )
        return _averaged(outputs)


def ensemble(nets: Sequence[DynamicNet]) -> Ensemble:
    """The ensemble of these networks, in eval mode. Raises ValueError when they are for different tasks."""
    if any(net.task != nets[0].task for net in nets):
        raise ValueError(
            "these networks are for different tasks; an ensemble needs the same images and classes"
        )
    return Ensemble(nets).eval()


def _averaged(outputs: Sequence[Output]) -> Output:
    logits_BC = torch.stack([one.logits_BC.float() for one in outputs]).mean(0)
    macs_B = torch.stack([one.macs_B for one in outputs]).sum(0)
    return Output(logits_BC, (), macs_B)


def _layer(name: str) -> int | None:
    """The layer that a parameter belongs to; None where it belongs to none."""
    module, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if module in _OF_A_LAYER and number.isdigit() else None


def _shared(net: DynamicNet) -> set[str]:
    """Names of the parameters that several layers have in common."""
    names: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for several in names.values() if len(several) > 1 for name in several}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    # in float64 the mean of equal float32 numbers is that number, to the bit
    return torch.stack([one.double() for one in tensors]).mean(0).to(tensors[0].dtype)
