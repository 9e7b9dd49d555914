"""One interactive page of what a trained network does; it needs nothing but itself, and works in a sandboxed frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files

import numpy as np
import torch

from search.inspection import Inspection, Shot
from search.inspection_layers import pixels_of, png_text
from search.inspection_words import macs, percent, sections, source_names, subtitle
from search.page_colours import CIVIDIS, PLASMA, RED_BLUE, VIRIDIS, colours, gradient, mapped, rgb

NAMES = {
    "images": "easiest and hardest images",
    "exits": "exits",
    "attention": "attention",
    "class_rates": "gates by class",
    "skip_patterns": "skip patterns",
    "layer_mixing": "layer mixing",
    "layer_moves": "layers at other places",
    "embedding": "outputs by place",
    "gate_rates": "gates over the training",
}
Epochs = Sequence[tuple[int, Mapping[str, float]]]


def inspection_html(found: Inspection, title: str, epochs: Epochs = ()) -> str:
    """The page; `epochs` are the gates' open rates by epoch."""
    parts = [(one.name, one.title, one.about, _DRAWN[one.name](found)) for one in sections(found)]
    if epochs and epochs[-1][1]:
        about = "share of validation images for which each gate is open after each epoch"
        parts.append(("gate_rates", "How gates opened and closed over the training", about, _gate_rates(epochs)))
    body = "\n".join(
        f'<section id="{name}"><h2>{escape(head)}</h2><p>{escape(about)}</p>'
        f'<div class="content">{drawn}</div></section>'
        for name, head, about, drawn in parts
    )
    values = {
        "title": escape(title),
        "about": escape(subtitle(found)),
        "nav": "".join(f'<a href="#{name}">{NAMES[name]}</a>' for name, *_ in parts),
        "body": body or "<p>Nothing in this network depends on the image.</p>",
    }
    page = files("search").joinpath("inspection_page.html").read_text(encoding="utf-8")
    return re.sub("@(title|about|nav|body)@", lambda match: values[match[1]], page)


def _images(found: Inspection) -> str:
    assert found.extremes is not None
    groups = {"least compute": found.extremes.cheapest, "most compute": found.extremes.dearest}
    return "".join(
        f'<div class="wide"><h3>{name}</h3><div class="shots">{"".join(map(_figure, shots))}</div></div>'
        for name, shots in groups.items()
    )


def _exits(found: Inspection) -> str:
    assert found.exits is not None
    used = found.exits.exits
    shades = colours(VIRIDIS, len(used))
    rows = []
    for one, colour in zip(used, shades, strict=True):
        own = "answers nobody" if one.accuracy is None else f"{percent(one.accuracy)} of those right"
        tip = f"{one.name}: {percent(one.share)} of the images, {own}; "
        tip += f"{percent(one.accuracy_all)} right were all answered there"
        dot = "" if one.accuracy is None else f'<span class="dot" style="left:{100 * one.accuracy:.1f}%"></span>'
        rows.append(
            f"<tr {_tip(tip)}><th>{one.name}</th><td class=n>{macs(one.macs)}</td><td><div class=track>"
            f'<span class=bar style="width:{100 * one.share:.1f}%;background:{colour}"></span>{dot}'
            f'<span class="ring" style="left:{100 * one.accuracy_all:.1f}%"></span></div></td>'
            f"<td class=n>{percent(one.share)}</td></tr>"
        )
    legend = (
        '<div class=keys><span class=key><i style="background:var(--blue)"></i>share of images</span>'
        "<span class=key><i class=dot></i>right, of those it answers</span>"
        "<span class=key><i class=ring></i>right, were all answered there</span></div>"
    )
    table = f"<table><tr><th>exit<th>leaving there<th>0 to 100 %<th>share</tr>{''.join(rows)}</table>"
    keys = "".join(_key(one.name, colour) for one, colour in zip(used, shades, strict=True))
    classes = "".join(
        f"<tr><th>{escape(name)}</th><td><div class=stack>"
        f"{_stacked(name, row, [one.name for one in used], shades)}</div></td></tr>"
        for name, row in zip(found.exits.classes, found.exits.by_class, strict=True)
    )
    by_class = f"<table><tr><th>class<th>share of its images, by exit</tr>{classes}</table><div class=keys>{keys}</div>"
    return f"<div>{table}{legend}</div><div>{by_class}</div>"


def _stacked(name: str, row: Sequence[float], exits: Sequence[str], shades: Sequence[str]) -> str:
    parts = zip(row, exits, shades, strict=True)
    return "".join(
        f"<span {_tip(f'class {name}: {percent(share)} at {exit}')} "
        f'style="width:{100 * share:.2f}%;background:{colour}"></span>'
        for share, exit, colour in parts
        if share
    )


def _attention(found: Inspection) -> str:
    assert found.attention is not None
    samples, exits = found.attention.samples, found.attention.exits
    head = "".join(f"<td>{_figure(shot)}</td>" for shot in samples)
    rows = []
    for one in exits:
        cells = "".join(
            f'<td><figure><div class=over><img alt="" src="data:image/png;base64,{shot.png}">'
            f'<img alt="" src="data:image/png;base64,{_coloured(png)}"></div></figure></td>'
            for shot, png in zip(samples, one.maps, strict=True)
        )
        scale = f'{one.low:.2f}<span class=ramp style="background:{gradient(PLASMA)};width:60px"></span>{one.high:.2f}'
        rows.append(f"<tr><th>{one.exit}</th>{cells}<td>{scale}</td></tr>")
    slider = 'strength of the map <input type="range" data-see min="0" max="1" step="0.02" value="0.62">'
    return f"<div class=wide><p>{slider}</p><table><tr><th>image</th>{head}<td></td></tr>{''.join(rows)}</table></div>"


def _class_rates(found: Inspection) -> str:
    assert found.class_rates is not None
    rates = found.class_rates
    rows = []
    for name, row in zip(rates.classes, rates.rates, strict=True):
        cells = "".join(
            _cell(value, f"class {name}, {gate}: open for {percent(value)}")
            for gate, value in zip(rates.gates, row, strict=True)
        )
        mean = float(np.mean(row))
        bar = f'<span class=bar style="width:{90 * mean:.0f}px"></span> {percent(mean, 0)}'
        rows.append(f'<tr><th>{escape(name)}</th>{cells}<td data-v="{mean:.4f}">{bar}</td></tr>')
    columns = "".join(f"<th data-sort><span>{escape(gate)}</span></th>" for gate in rates.gates)
    table = (
        f"<table>{_head(rates.gates)}<tr><th>class</th>{columns}<th data-sort class=by>mean of gates</th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )
    return f"<div>{table}<p>{_ramp(CIVIDIS, 'closed', 'open for all')} · a click on a gate sorts the classes</p></div>"


def _patterns(found: Inspection) -> str:
    assert found.patterns is not None
    gates, largest = found.patterns.gates, max(row.share for row in found.patterns.rows)
    rows = []
    for row in found.patterns.rows:
        cells = "".join(
            f"<td class=c {_tip(gate + (' runs' if one == '1' else ' is skipped'))} "
            f'style="background:{"var(--blue)" if one == "1" else "var(--empty)"}"></td>'
            for gate, one in zip(gates, row.open, strict=True)
        )
        bar = f'<span class=bar style="width:{170 * row.share / largest:.0f}px"></span> {percent(row.share)}'
        rows.append(
            f'<tr>{cells}<td data-v="{row.share}">{bar}</td>'
            f'<td class=n data-v="{row.accuracy}">{percent(row.accuracy)}</td>'
            f'<td class=n data-v="{row.macs}">{macs(row.macs)}</td></tr>'
        )
    head = "".join(f"<th><span>{escape(gate)}</span></th>" for gate in gates)
    head += "<th data-sort class='by down'>share of images</th><th data-sort>accuracy</th><th data-sort>mean cost</th>"
    keys = _key("runs", "var(--blue)") + _key("is skipped", "var(--empty)")
    return (
        f"<div><table>{_head(gates)}<tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<div class=keys>{keys}</div></div>"
    )


def _mixtures(found: Inspection) -> str:
    assert found.mixtures is not None
    tables = {"answered right": found.mixtures.right, "answered wrong": found.mixtures.wrong}
    drawn = [_mixture(name, rows) for name, rows in tables.items() if rows]
    right, wrong = found.mixtures.right, found.mixtures.wrong
    if right and wrong:
        pairs = zip(right, wrong, strict=True)
        drawn.append(_mixture("right minus wrong", [[a - b for a, b in zip(*p, strict=True)] for p in pairs], True))
    return "".join(drawn)


def _mixture(title: str, rows: Sequence[Sequence[float]], difference: bool = False) -> str:
    names = source_names(len(rows[-1]))
    reach = max((abs(v) for row in rows for v in row), default=1.0) or 1.0
    body = []
    for number, row in enumerate(rows):
        cells = []
        for source, value in zip(names, row, strict=False):
            tip = f"layer{number + 1} reads {source}: {100 * value:{'+' if difference else ''}.1f} %"
            cells.append(_cell(value, tip, (value / reach + 1) / 2 if difference else None))
        body.append(f"<tr><th>layer{number + 1}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th><span>{name}</span></th>" for name in names)
    table = f"<table>{_head(names)}<tr><th>reads</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    scale = _ramp(RED_BLUE, f"-{percent(reach, 0)}", percent(reach, 0)) if difference else _ramp(CIVIDIS, "0", "100 %")
    return f"<div><h3>{title}</h3>{table}<p>{scale}</p></div>"


def _moves(found: Inspection) -> str:
    assert found.moves is not None
    moves, count = found.moves, len(found.moves.counts)
    shades, panels = colours(VIRIDIS, count), []
    width, step, left, top = 250, 26, 26, 34
    height = top + step * count + 24
    edges = np.array(moves.edges)
    x = left + (width - left - 8) * np.array([0, *(edges[1:] + edges[:-1]) / 2, edges[-1]]) / edges[-1]
    for layer in range(count):
        drawn = (
            f'<text x="{left}" y="12" style="fill:#1f2933">layer{layer}, mean change {moves.norms[layer]:.2g}</text>'
        )
        for place in range(count):
            base = top + step * (place + 1)
            counts = np.array([0, *moves.counts[layer][place], 0])
            y = base - 1.5 * step * counts / max(int(counts.max()), 1)
            line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
            tip = f"layer{layer} at place {place}: mean {moves.means[layer][place]:.2f} times the layer's mean"
            own = ' stroke="#1f2933" stroke-width="1.4"' if place == layer else ' stroke="#fff"'
            drawn += f'<polygon {_tip(tip)} points="{line}" fill="{shades[place]}" fill-opacity=".85"{own}/>'
            drawn += f'<text x="{left - 8}" y="{base}" text-anchor="end">{place}</text>'
        for tick in (tick for tick in (0.5, 1.0, 1.5, 2.0, 3.0) if tick < edges[-1]):
            at = left + (width - left - 8) * tick / edges[-1]
            drawn += f'<text x="{at:.1f}" y="{height - 4}" text-anchor="middle">{tick:g}</text>'
        panels.append(f'<div><svg width="{width}" height="{height}">{drawn}</svg></div>')
    note = (
        "rows: place at which the layer runs, its own outlined; along: change of the class token over the layer's mean"
    )
    return "".join(panels) + f'<p class="wide">{note}</p>'


def _embedding(found: Inspection) -> str:
    assert found.moves is not None
    assert found.moves.embedding is not None
    one = found.moves.embedding
    shades = colours(VIRIDIS, len(one.points))
    every = np.concatenate([np.array(points) for points in one.points])
    low, span = every.min(0), np.maximum(np.ptp(every, axis=0), 1e-9)
    marks = []
    for place, points in enumerate(one.points):
        spots = ((np.array(points) - low) / span) * (600, -380) + (30, 400)
        dots = "".join(
            f'<circle {_tip(f"layer{one.layer} at place {place}")} cx="{x:.1f}" cy="{y:.1f}" r="4" '
            f'fill="{shades[place]}" fill-opacity=".75"/>'
            for x, y in spots
        )
        marks.append(f'<g class="place{place}">{dots}</g>')
    axes = (
        f'<path d="M20 10V410H650" fill="none" stroke="#9aa5b1"/>'
        f'<text x="650" y="428" text-anchor="end">{one.method} 1</text>'
        f'<text x="14" y="14" transform="rotate(-90 14 14)" text-anchor="end">{one.method} 2</text>'
    )
    keys = "".join(
        f"<button type=button class=key aria-pressed=true data-part=place{i}>"
        f'<i style="background:{c}"></i>place {i}</button>'
        for i, c in enumerate(shades)
    )
    return f'<div><svg width="660" height="434">{axes}{"".join(marks)}</svg><div class=keys>{keys}</div></div>'


def _gate_rates(epochs: Epochs) -> str:
    names = list(epochs[-1][1])
    rows = []
    for name in names:
        cells = "".join(
            _cell(
                rates.get(name, 0.0),
                f"{name} after epoch {epoch}: open for {percent(rates.get(name, 0.0))}",
                written=False,
            )
            for epoch, rates in epochs
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}<td class=n>{percent(epochs[-1][1][name], 0)}</td></tr>")
    head = "".join(f'<td class=c style="color:var(--soft)">{epoch}</td>' for epoch, _ in epochs)
    table = f"<table><tr><th>epoch</th>{head}<td class=n>at last</td></tr>{''.join(rows)}</table>"
    return f"<div>{table}<p>{_ramp(CIVIDIS, 'closed', 'open for all')}</p></div>"


def _figure(shot: Shot) -> str:
    right = shot.label == shot.answer
    answer = "" if right else f"<br><span class=wrong>took for {escape(shot.answer)}</span>"
    fine = ' class="fine"' if pixels_of(shot.png).shape[0] > 64 else ""
    tip = f"class {shot.label}, answered {shot.answer}\n{macs(shot.macs)}"
    return (
        f'<figure {_tip(tip)}><img{fine} alt="" src="data:image/png;base64,{shot.png}">'
        f"{escape(shot.label)}{answer}<br>{macs(shot.macs)}</figure>"
    )


def _cell(value: float, tip: str, at: float | None = None, written: bool = True) -> str:
    """A coloured cell; `at` is the place on the scale of differences, else the value is one of shares."""
    difference = at is not None
    colour = mapped(RED_BLUE if difference else CIVIDIS, value if at is None else at)
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    ink = "#fff" if 0.3 * red + 0.59 * green + 0.11 * blue < 135 else "#1f2933"
    number = f"{round(100 * value):+d}" if difference and round(100 * value) else f"{abs(round(100 * value))}"
    text = number if written else ""
    return f'<td class=c {_tip(tip)} data-v="{value:.4f}" style="background:{colour};color:{ink}">{text}</td>'


def _head(names: Sequence[str]) -> str:
    """The start of a table's head that has room for these names aslant."""
    return f'<thead class=tilt style="--head:{14 + round(4.8 * max(map(len, names)))}px">'


def _tip(text: str) -> str:
    return f'data-tip="{escape(text)}"'


def _key(name: str, colour: str) -> str:
    return f'<span class=key><i style="background:{colour}"></i>{escape(name)}</span>'


def _ramp(scale: Sequence[str], low: str, high: str) -> str:
    return f'{low}<span class=ramp style="background:{gradient(scale)}"></span>{high}'


def _coloured(png: str) -> str:
    """A gray map as a PNG in colours."""
    pixels = rgb(PLASMA, pixels_of(png) / 255).round().astype(np.uint8)
    return png_text(torch.from_numpy(pixels).permute(2, 0, 1))


_DRAWN: dict[str, Callable[[Inspection], str]] = {
    "images": _images,
    "exits": _exits,
    "attention": _attention,
    "class_rates": _class_rates,
    "skip_patterns": _patterns,
    "layer_mixing": _mixtures,
    "layer_moves": _moves,
    "embedding": _embedding,
}
