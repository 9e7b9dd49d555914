"""Every layer of a network run at every place: how much it changes there, and what one of them puts out.

Contributions by place and the embedding of outputs follow Freiberger, Kun, Løvlie and Risi, "LayerShuffle: Enhancing
Robustness in Vision Transformers by Randomizing Layer Execution Order", 2024. Differs: orders are drawn so that every
image sees every layer at every place equally often.

Shapes: B images, C channels, H x W pixels, L layers, P places (as many), V values of an output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search.inspection.hooks import hook_modules
from spaces.contract.net import DynamicNet
from spaces.contract.policies import AlwaysOn

PARTS = 8  # of the images, each with an order of layers of its own to start from
POINTS = 400  # of an embedding, at most
VALUES = 20_000_000  # numbers held for an embedding, at most


@dataclass(frozen=True)
class LayerPlaces:
    """Changes of the class token (L2 norm), and the outputs of layer `chosen`: (images, V) a place.

    `trained`: the layers were trained to move; others are shown to compare them with.
    """

    norms_LPB: Tensor
    chosen: int
    outputs: list[Tensor]
    trained: bool = True


def layer_places(net: DynamicNet, pixels_BCHW: Tensor, *, seed: int = 0) -> LayerPlaces | None:
    """All layers run at every place; None for networks whose layers cannot move, or were only trained to be skipped."""
    layers = getattr(net, "layers", None)
    count = net.movable_layers
    shown = net.trained_to_move or not net.gates
    if not (shown and count > 1 and isinstance(layers, nn.ModuleList)):
        return None
    record = _Record(count)
    with hook_modules((layer, record.hook(i)) for i, layer in enumerate(layers)):
        for number, part in enumerate(pixels_BCHW.chunk(PARTS)):
            draw = torch.Generator().manual_seed(seed + number)
            order = torch.randperm(count, generator=draw).tolist()
            for shift in range(count):
                turned = order[shift:] + order[:shift]
                record.place_of = {layer: place for place, layer in enumerate(turned)}
                net(part, AlwaysOn(order=tuple(turned)))
    norms_LPB = torch.stack(
        [torch.stack([torch.cat(place) for place in layer]) for layer in record.changes]
    )
    return LayerPlaces(
        norms_LPB,
        record.chosen,
        [torch.cat(place)[: record.kept] for place in record.outputs],
        net.trained_to_move,
    )


class _Record:
    """What the layers do in pass after pass."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.chosen, self.kept = count // 2, POINTS // count
        self.changes: list[list[list[Tensor]]] = [[[] for _ in range(count)] for _ in range(count)]
        self.outputs: list[list[Tensor]] = [[] for _ in range(count)]
        self.place_of: dict[int, int] = {}  # in the pass under way

    def hook(self, index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            place = self.place_of[index]
            change_BD = output[:, 0].float() - inputs[0][:, 0].float()
            self.changes[index][place].append(change_BD.norm(dim=1).cpu())
            if index == self.chosen and self._has_room(place, output):
                self.outputs[place].append(output.float().flatten(1).cpu())

        return measure

    def _has_room(self, place: int, output: Tensor) -> bool:
        held = sum(map(len, self.outputs[place]))
        return held < min(self.kept, 1 + VALUES // (output[0].numel() * self.count))
