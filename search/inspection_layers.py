"""Measures that look inside a network while it runs: where exits look, and what layers do at other places.

Contributions by place and the embedding of outputs follow Freiberger, Kun, Løvlie and Risi, "LayerShuffle: Enhancing
Robustness in Vision Transformers by Randomizing Layer Execution Order", 2024. Differs: orders are drawn so that every
image sees every layer at every place equally often.

Shapes: B images, C channels, H x W pixels of a map, L layers, N tokens, D width.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from spaces.exit_heads import Attention
from spaces.exit_rules import ExitRule
from spaces.exits import ExitNet
from spaces.net import DynamicNet
from spaces.policies import AlwaysOn

BINS = 24
PARTS = 8  # of the images, each with an order of layers of its own to start from
POINTS = 400  # of an embedding, at most
VALUES = 20_000_000  # numbers held for an embedding, at most


@dataclass(frozen=True)
class AttentionMaps:
    """An exit's maps, one a sample, as base64 PNGs in which 0 stands for `low` and 255 for `high`."""

    exit: str
    maps: list[str]
    low: float
    high: float


@dataclass(frozen=True)
class Embedding:
    """Two numbers for what one layer put out, a list of points a place; `explained` is the variance they keep."""

    layer: int
    method: str
    points: list[list[tuple[float, float]]]
    explained: float | None


@dataclass(frozen=True)
class LayerMoves:
    """How much each layer changes the class token (L2 norm, over the layer's mean) at each place.

    `counts[layer][place]` are histograms over `edges`, `means[layer][place]` the means.
    """

    images: int
    edges: list[float]
    counts: list[list[list[int]]]
    means: list[list[float]]
    norms: list[float]  # each layer's mean, which its numbers are multiples of
    embedding: Embedding | None


def attention_maps(net: DynamicNet, pixels_BCHW: Tensor) -> list[AttentionMaps]:
    """Maps of the exits that have attention, means over channels; empty where none has."""
    if not isinstance(net, ExitNet) or not net.exit_count:
        return []
    found = {
        f"exit{k}": [module for module in head.modules() if isinstance(module, Attention)]
        for k, head in enumerate(net.exit_heads)
    }
    looking = {name: modules[0] for name, modules in found.items() if modules}
    if not looking:
        return []
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.update({name: output.float().mean(1).cpu()})

    with _hooked({name: (module, keep(name)) for name, module in looking.items()}):
        net(pixels_BCHW, AlwaysOn(exits=ExitRule(every=True)))
    return [_as_pngs(name, seen[name]) for name in looking]


def layer_moves(net: DynamicNet, pixels_BCHW: Tensor, *, seed: int = 0, umap: bool = False) -> LayerMoves | None:
    """What layers do at every place, all of them run; None for networks whose layers were not trained to move."""
    layers = getattr(net, "layers", None)
    count = net.movable_layers
    if not (net.trained_to_move and count > 1 and isinstance(layers, nn.ModuleList)):
        return None
    changes: list[list[list[Tensor]]] = [[[] for _ in range(count)] for _ in range(count)]
    chosen, kept = count // 2, POINTS // count
    outputs: list[list[Tensor]] = [[] for _ in range(count)]
    place_of: dict[int, int] = {}  # in the pass under way

    def measure(index: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            place = place_of[index]
            change_BD = output[:, 0].float() - inputs[0][:, 0].float()
            changes[index][place].append(change_BD.norm(dim=1).cpu())
            if index == chosen and sum(map(len, outputs[place])) < min(kept, 1 + VALUES // (output[0].numel() * count)):
                outputs[place].append(output.float().flatten(1).cpu())

        return hook

    with _hooked({str(i): (layer, measure(i)) for i, layer in enumerate(layers)}):
        for number, part in enumerate(pixels_BCHW.chunk(PARTS)):
            draw = torch.Generator().manual_seed(seed + number)
            order = torch.randperm(count, generator=draw).tolist()
            for shift in range(count):
                turned = order[shift:] + order[:shift]
                place_of.update({layer: place for place, layer in enumerate(turned)})
                net(part, AlwaysOn(order=tuple(turned)))
    norms = torch.stack([torch.stack([torch.cat(place) for place in layer]) for layer in changes])
    per_layer = norms.mean((1, 2)).clamp_min(1e-12)
    relative = norms / per_layer[:, None, None]
    edges = np.linspace(0, max(float(np.quantile(relative.numpy(), 0.999)), 1.5), BINS + 1)
    return LayerMoves(
        images=len(pixels_BCHW),
        edges=[round(float(e), 4) for e in edges],
        counts=[[np.histogram(p, edges)[0].tolist() for p in one.numpy()] for one in relative],
        means=[[round(float(p.mean()), 4) for p in one] for one in relative],
        norms=[round(float(n), 5) for n in per_layer],
        embedding=_embedding(chosen, [torch.cat(place)[:kept] for place in outputs], umap),
    )


def _embedding(layer: int, outputs: list[Tensor], umap: bool) -> Embedding | None:
    """The outputs of one layer in two dimensions: UMAP where asked for and installed, else principal components."""
    sizes = [len(place) for place in outputs]
    values = torch.cat(outputs).numpy()
    if len(values) < 8:
        return None
    points, method, explained = _umap(values) if umap else None, "UMAP", None
    if points is None:
        from sklearn.decomposition import PCA

        pca = PCA(2, svd_solver="randomized", random_state=0)
        points, method = pca.fit_transform(values), "PCA"
        explained = round(float(pca.explained_variance_ratio_.sum()), 4)
    points = points / max(float(np.abs(points).max()), 1e-12)
    split = np.split(points, np.cumsum(sizes)[:-1])
    places = [[(round(float(x), 3), round(float(y), 3)) for x, y in place] for place in split]
    return Embedding(layer, method, places, explained)


def _umap(values: np.ndarray) -> np.ndarray | None:
    try:
        from umap import UMAP  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own versions and threads
        return UMAP(n_neighbors=min(15, len(values) - 1), random_state=0).fit_transform(values)


def _as_pngs(name: str, maps_BHW: Tensor) -> AttentionMaps:
    low, high = float(maps_BHW.min()), float(maps_BHW.max())
    scaled = ((maps_BHW - low) / max(high - low, 1e-12) * 255).round().to(torch.uint8)
    return AttentionMaps(name, [png_text(one[None]) for one in scaled], round(low, 4), round(high, 4))


def png_text(image_CHW: Tensor) -> str:
    """A uint8 image of one or three channels as a base64 PNG."""
    pixels = image_CHW[0] if len(image_CHW) == 1 else image_CHW[:3].permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def pixels_of(png: str) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 of such a text."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@contextmanager
def _hooked(hooks: dict[str, tuple[nn.Module, Any]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
