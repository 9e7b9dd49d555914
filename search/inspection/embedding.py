"""What one layer puts out at every place, in two dimensions: how much of it depends on the place."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from search.inspection.colours import VIRIDIS, colours
from search.inspection.figure import panel
from search.inspection.layer_places import LayerPlaces
from search.inspection.markup import tip
from search.inspection.picture import Blank, Headline, Picture
from search.inspection.subject import Subject
from search.report.amounts import percent
from search.report.canvas import SOFT

logger = logging.getLogger(f"dynafront.{__name__}")

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 8  # points


@dataclass(frozen=True)
class Embedding:
    """Two numbers for what one layer put out, a list of points a place; `explained` is the variance they keep."""

    layer: int
    method: str
    points: list[list[tuple[float, float]]]
    explained: float | None
    trained: bool = True  # to move


def measure(subject: Subject) -> Embedding | None:
    """None where layers cannot move, or for too few images."""
    return (
        embedding(subject.layer_places, umap=subject.effort.umap) if subject.layer_places else None
    )


def embedding(places: LayerPlaces, *, umap: bool) -> Embedding | None:
    """The outputs of one layer in two dimensions: UMAP where asked for and installed, else principal components."""
    values = torch.cat(places.outputs).numpy()
    if len(values) < FEWEST:
        return None
    points, method, explained = _umap(values) if umap else None, "UMAP", None
    if points is None:
        from sklearn.decomposition import PCA

        pca = PCA(2, svd_solver="randomized", random_state=0)
        points, method = pca.fit_transform(values), "PCA"
        explained = round(float(pca.explained_variance_ratio_.sum()), 4)
    points = points / max(float(np.abs(points).max()), 1e-12)
    ends = np.cumsum([len(place) for place in places.outputs])[:-1]
    by_place = [
        [(round(float(x), 3), round(float(y), 3)) for x, y in place]
        for place in np.split(points, ends)
    ]
    return Embedding(places.chosen, method, by_place, explained, places.trained)


def _umap(values: np.ndarray) -> np.ndarray | None:
    try:
        from umap import UMAP  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        logger.debug("umap is not installed: principal components take its place")
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own versions and threads
        return UMAP(n_neighbors=min(15, len(values) - 1), random_state=0).fit_transform(values)


def between_places(embedded: Embedding) -> float:
    """Share of the points' variance that lies between the places' means."""
    places = [np.array(points) for points in embedded.points]
    everything = np.concatenate(places)
    total = float(((everything - everything.mean(0)) ** 2).sum())
    inside = sum(float(((points - points.mean(0)) ** 2).sum()) for points in places)
    return 1 - inside / total if total else 0.0


def headline(embedded: Embedding, images: int) -> Headline:
    share = between_places(embedded)
    finding = f"What layer{embedded.layer} puts out {_verdict(share)}"
    about = f"{embedded.method} of all output tokens, "
    about += "a point an image, " if embedded.trained else ""
    about += "coloured by the place at which the layer ran"
    about += "" if embedded.trained else " (not trained for it)"
    if embedded.explained is not None:
        about += f"; two components keep {percent(embedded.explained, 0)} of the variance"
    return Headline(f"{finding}: {percent(share, 0)} of the spread is between places", about)


def _verdict(share: float) -> str:
    if share > 0.5:
        return "depends mostly on its place"
    if share < 0.1:
        return "hardly depends on its place"
    return "shows its place"


def plot(embedded: Embedding, blank: Blank) -> Figure:
    from matplotlib import colormaps

    figure = blank(4.6)
    axes = panel(figure, 0.075, 0.83, 0.6)
    shades = colormaps["viridis"](np.linspace(0, 0.95, len(embedded.points)))
    for place, points in enumerate(embedded.points):
        x, y = np.array(points).T
        axes.scatter(
            x, y, s=22, color=shades[place], alpha=0.75, linewidths=0, label=f"place {place}"
        )
    axes.grid(color="#e9ecef", linewidth=0.8)
    axes.set_xlabel(f"{embedded.method} 1", color=SOFT, fontsize=9)
    axes.set_ylabel(f"{embedded.method} 2", color=SOFT, fontsize=9)
    title = f"layer{embedded.layer} runs at"
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, title=title
    )
    legend.get_title().set_fontsize(9)
    return figure


def content(embedded: Embedding) -> str:
    shades = colours(VIRIDIS, len(embedded.points))
    every = np.concatenate([np.array(points) for points in embedded.points])
    low, span = every.min(0), np.maximum(np.ptp(every, axis=0), 1e-9)
    marks = ""
    for place, points in enumerate(embedded.points):
        spots = ((np.array(points) - low) / span) * (600, -380) + (30, 400)
        hint = tip(f"layer{embedded.layer} at place {place}")
        colour = f'fill="{shades[place]}" fill-opacity=".75"'
        dots = "".join(
            f'<circle {hint} cx="{x:.1f}" cy="{y:.1f}" r="4" {colour}/>' for x, y in spots
        )
        marks += f'<g class="place{place}">{dots}</g>'
    axes = (
        f'<path d="M20 10V410H650" fill="none" stroke="#9aa5b1"/>'
        f'<text x="650" y="428" text-anchor="end">{embedded.method} 1</text>'
        f'<text x="14" y="14" transform="rotate(-90 14 14)" text-anchor="end">{embedded.method} 2</text>'
    )
    keys = "".join(
        f"<button type=button class=key aria-pressed=true data-part=place{place}>"
        f'<i style="background:{shade}"></i>place {place}</button>'
        for place, shade in enumerate(shades)
    )
    return (
        f'<div><svg width="660" height="434">{axes}{marks}</svg><div class=keys>{keys}</div></div>'
    )


PICTURE = Picture(
    name="embedding",
    link="outputs by place",
    key="moves.embedding",
    part=Embedding,
    measure=measure,
    headline=headline,
    plot=plot,
    content=content,
)
