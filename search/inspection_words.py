"""What an inspection shows, in words: for each picture a headline with the finding, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.inspection import ClassRates, Exits, Extremes, Inspection, Mixtures, Patterns
from search.inspection_layers import Embedding, LayerMoves
from search.objectives import macs_text


@dataclass(frozen=True)
class Section:
    """One picture: its name (of the file, too), its headline, and how to read it."""

    name: str
    title: str
    about: str


def sections(found: Inspection) -> list[Section]:
    """The pictures that apply to the network, in the order in which they are shown."""
    return list(_sections(found))


def _sections(found: Inspection) -> Iterator[Section]:
    if found.extremes:
        yield _extremes(found.extremes)
    if found.exits:
        yield _exits(found.exits, found.images)
    if found.attention:
        yield Section(
            "attention",
            "Where each exit looks before it answers",
            "an exit multiplies its features with a map; shown is its mean over channels, yellow where much is kept",
        )
    if found.class_rates:
        yield _class_rates(found.class_rates)
    if found.patterns:
        yield _patterns(found.patterns, found.images)
    if found.mixtures:
        yield _mixtures(found.mixtures)
    if found.moves:
        yield _moves(found.moves)
        if found.moves.embedding:
            yield _embedding(found.moves.embedding)


def subtitle(found: Inspection) -> str:
    """What all pictures are of."""
    share = found.macs_mean / found.plain_macs
    return (
        f"{found.images:,} validation images, {percent(found.accuracy)} right at {macs(found.macs_mean)} "
        f"on average, {percent(share, 0)} of the plain network's {macs(found.plain_macs)}"
    )


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def macs(value: float) -> str:
    """A number of MACs with its unit: "464 k MACs"."""
    return f"{macs_text(value)} MACs"


def source_names(count: int) -> list[str]:
    """Sources of a mixture: the stem, then layers."""
    return ["stem", *(f"layer{i}" for i in range(count - 1))]


def _extremes(found: Extremes) -> Section:
    low, high = found.cheapest[0].macs, found.dearest[0].macs
    return Section(
        "images",
        f"The hardest images take {high / max(low, 1.0):.1f} times the compute of the easiest",
        f"validation images from {macs(low)} to {macs(high)}; below, the class; in red, a wrong answer",
    )


def _exits(found: Exits, images: int) -> Section:
    early = sum(one.share for one in found.exits if one.name.startswith("exit"))
    return Section(
        "exits",
        f"{percent(early, 0)} of the images are answered early",
        f"share and accuracy by exit over {images:,} images; right, where images of each class are answered",
    )


def _class_rates(found: ClassRates) -> Section:
    means = [float(np.mean(row)) for row in found.rates]
    low, high = int(np.argmin(means)), int(np.argmax(means))
    if means[high] - means[low] < 0.01:
        title = "Every class opens the gates alike"
    else:
        title = (
            f"Class {found.classes[high]} opens {percent(means[high], 0)} of the gates, "
            f"class {found.classes[low]} {percent(means[low], 0)}"
        )
    left = f"; {found.left_out} classes between are left out" if found.left_out else ""
    filters = any(name.endswith("filters") for name in found.gates)
    note = "; filters: the share that is computed, none in a skipped block" if filters else ""
    return Section("class_rates", title, f"share of a class's images for which a gate is open{note}{left}")


def _patterns(found: Patterns, images: int) -> Section:
    first = found.rows[0]
    ran = f"{first.open.count('1')} of {len(first.open)} gated layers"
    if found.distinct == 1:
        return Section("skip_patterns", f"All images run the same {ran}", f"open layer gates over {images:,} images")
    return Section(
        "skip_patterns",
        f"{percent(first.share, 0)} of the images run the same {ran}",
        f"the {len(found.rows)} most frequent of {found.distinct} patterns of open layer gates over {images:,} images",
    )


def _mixtures(found: Mixtures) -> Section:
    table = found.right or found.wrong or []
    latest = float(np.mean([row[-1] for row in table]))
    return Section(
        "layer_mixing",
        f"Layers take {percent(latest, 0)} of their input from the layer just before",
        "mean weight of each source (columns) in a layer's input (rows), for images answered right and wrong",
    )


def _moves(found: LayerMoves) -> Section:
    table = np.array(found.means)
    layer, place = np.unravel_index(int(table.argmax()), table.shape)
    return Section(
        "layer_moves",
        f"At place {place}, layer{layer} changes the class token {table[layer, place]:.1f} times as much as on average",
        f"change (L2 norm) of the class token over the layer's mean; {found.images} images, layers in arbitrary orders",
    )


def _embedding(found: Embedding) -> Section:
    share = between_places(found)
    verdict = (
        "is told by its place" if share > 0.5 else "hardly hangs on its place" if share < 0.1 else "shows its place"
    )
    kept = "" if found.explained is None else f"; two components keep {percent(found.explained, 0)} of the variance"
    return Section(
        "embedding",
        f"What layer{found.layer} puts out {verdict}: {percent(share, 0)} of the spread is between places",
        f"{found.method} of all output tokens, a point an image, coloured by the place at which the layer ran{kept}",
    )


def between_places(found: Embedding) -> float:
    """Share of the points' variance that lies between the places' means."""
    places = [np.array(points) for points in found.points]
    everything = np.concatenate(places)
    total = float(((everything - everything.mean(0)) ** 2).sum())
    inside = sum(float(((points - points.mean(0)) ** 2).sum()) for points in places)
    return 1 - inside / total if total else 0.0
