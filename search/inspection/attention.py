"""Attention of exits: the maps that they multiply their features with.

Shapes: B images, C channels, H x W pixels of a map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from search.inspection.colours import PLASMA, gradient, rgb
from search.inspection.figure import WIDTH, below, share_of_height
from search.inspection.hooks import hook_modules
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.shots import (
    Shot,
    caption,
    caption_colour,
    pixels_of,
    png_text,
    shot_html,
    shots,
    show,
)
from search.inspection.subject import Subject
from search.report.canvas import INK, SOFT
from spaces.contract.exit_rules import ExitRule
from spaces.contract.net import DynamicNet
from spaces.contract.policies import AlwaysOn
from spaces.exits import exit_heads
from spaces.exits.exits import ExitNet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = 0.08  # inches between rows of maps


@dataclass(frozen=True)
class AttentionMaps:
    """An exit's maps, one a sample, as base64 PNGs in which 0 is `low` and 255 is `high`."""

    exit: str
    maps: list[str]
    low: float
    high: float


@dataclass(frozen=True)
class Attention:
    """Sample images, from the cheapest to the most expensive, and what each exit makes of them."""

    samples: list[Shot]
    exits: list[AttentionMaps]


def measure(subject: Subject) -> Attention | None:
    """None where no exit has attention."""
    chosen = _samples(subject)
    with subject.execution.autocast():
        maps = attention_maps(subject.net, subject.pixels_BCHW[chosen])
    return Attention(shots(subject, chosen), maps) if maps else None


def attention_maps(net: DynamicNet, pixels_BCHW: Tensor) -> list[AttentionMaps]:
    """Maps of the exits that have attention, means over channels; empty where none has."""
    if not isinstance(net, ExitNet) or not net.exit_count:
        return []
    with_attention = {}
    for number, head in enumerate(net.exit_heads):
        modules = [module for module in head.modules() if isinstance(module, exit_heads.Attention)]
        if modules:
            with_attention[f"exit{number}"] = modules[0]
    if not with_attention:
        return []
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., Any]:
        return lambda module, inputs, output: maps.update({name: output.float().mean(1).cpu()})

    with hook_modules((module, keep(name)) for name, module in with_attention.items()):
        net(pixels_BCHW, AlwaysOn(exits=ExitRule(every=True)))
    return [_as_pngs(name, maps[name]) for name in with_attention]


def _samples(subject: Subject) -> list[int]:
    """Images of the first batch, spread evenly from the cheapest to the most expensive."""
    order = subject.seen.macs_N[: len(subject.seen.first)].argsort(stable=True).tolist()
    places = np.linspace(0, len(order) - 1, min(subject.effort.samples, len(order)))
    return [order[round(place)] for place in places]


def _as_pngs(name: str, maps_BHW: Tensor) -> AttentionMaps:
    low, high = float(maps_BHW.min()), float(maps_BHW.max())
    scaled = ((maps_BHW - low) / max(high - low, 1e-12) * 255).round().to(torch.uint8)
    return AttentionMaps(
        name, [png_text(map_HW[None]) for map_HW in scaled], round(low, 4), round(high, 4)
    )


def headline(attention: Attention, images: int) -> Headline:
    return Headline(
        "Which places of the image each exit uses",
        "an exit multiplies its features with a map; shown is its mean over channels, yellow where much is kept",
    )


def plot(attention: Attention, blank: Blank) -> Figure:
    cell = 0.82 / max(len(attention.samples), 5)
    size = WIDTH * 0.82 / max(len(attention.samples), 5)
    figure = blank((size + GAP) * (len(attention.exits) + 1) + 0.5)
    for place, shot in enumerate(attention.samples):
        for row in range(len(attention.exits) + 1):
            left, bottom = 0.1 + place * cell, below(figure, (size + GAP) * (row + 1) + 0.28)
            axes = figure.add_axes(
                (left, bottom, cell * 0.95, share_of_height(figure, size * 0.95))
            )
            show(axes, shot, gray=row > 0)
            if not row:
                colour = caption_colour(shot)
                axes.set_title(caption(shot), fontsize=8, color=colour, parse_math=False)
                continue
            height, width = pixels_of(shot.png).shape[:2]
            axes.imshow(
                pixels_of(attention.exits[row - 1].maps[place]), cmap="plasma", vmin=0, vmax=255, alpha=0.62,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="bilinear",
            )  # fmt: skip
    _name_rows(figure, attention, size, 0.105 + len(attention.samples) * cell)
    return figure


def _name_rows(figure: Figure, attention: Attention, size: float, right: float) -> None:
    """What a row shows, left of it, and the range of its colours, right of it."""

    def middle(row: int) -> float:
        return below(figure, (size + GAP) * (row + 0.5) + 0.28)

    figure.text(0.09, middle(0), "image", ha="right", va="center", fontsize=9, color=INK)
    for row, maps in enumerate(attention.exits, 1):
        height, width = pixels_of(maps.maps[0]).shape
        name = f"{maps.exit}\n{height}x{width} map"
        figure.text(0.09, middle(row), name, ha="right", va="center", fontsize=9, color=INK)
        scale = f"{maps.low:.2f} (blue)\nto {maps.high:.2f}\n(yellow)"
        figure.text(right, middle(row), scale, va="center", fontsize=7.5, color=SOFT)


def content(attention: Attention) -> str:
    head = "".join(f"<td>{shot_html(shot)}</td>" for shot in attention.samples)
    rows = "".join(_row(maps, attention.samples) for maps in attention.exits)
    slider = (
        'strength of the map <input type="range" data-see min="0" max="1" step="0.02" value="0.62">'
    )
    return f"<div class=wide><p>{slider}</p><table><tr><th>image</th>{head}<td></td></tr>{rows}</table></div>"


def _row(maps: AttentionMaps, samples: list[Shot]) -> str:
    cells = "".join(
        f'<td><figure><div class=over><img alt="" src="data:image/png;base64,{shot.png}">'
        f'<img alt="" src="data:image/png;base64,{_coloured(png)}"></div></figure></td>'
        for shot, png in zip(samples, maps.maps, strict=True)
    )
    colours = f'<span class=ramp style="background:{gradient(PLASMA)};width:60px"></span>'
    return f"<tr><th>{maps.exit}</th>{cells}<td>{maps.low:.2f}{colours}{maps.high:.2f}</td></tr>"


def _coloured(png: str) -> str:
    """A gray map as a PNG in colours."""
    pixels = rgb(PLASMA, pixels_of(png) / 255).round().astype(np.uint8)
    return png_text(torch.from_numpy(pixels).permute(2, 0, 1))


PICTURE = Picture(
    name="attention",
    link="attention",
    key="attention",
    part=Attention,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
