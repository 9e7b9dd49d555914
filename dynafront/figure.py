"""The front as a plotly figure: what search.report.front_plot draws, for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from search.front.offer import Offer, offer_of
from search.front.pareto import front as front_of
from search.objectives import MACS, Cost
from search.report.amounts import percent
from search.report.canvas import BASELINE, CLOUD, FRONT, INK, SOFT, WIDTH
from search.report.front_points import lowest_accuracy, points_to_draw
from search.report.front_text import about, amount, offer_text, summary
from search.report.text import knobs_text, network_text
from storage.records import PointRecord, training_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

INSTALL = "plotly is not installed: pip install plotly nbformat (dynafront's extra `notebook`)"
CIRCLE, DIAMOND = "circle", "diamond"


def front_figure(
    study: str,
    points: Sequence[PointRecord],
    *,
    front: Sequence[PointRecord],
    baselines: Sequence[PointRecord] = (),
    hypervolume: float,
    cost: Cost = MACS,
    majority: float | None = None,
    offer: Offer | None = None,
) -> Figure:
    """All points, the front with its intervals, and the baselines; the cost on a log axis.

    `majority`, the accuracy of always answering the largest class, is a dotted line. `offer` is what the study offers,
    by default the cheapest point that is as good as the best. Raises ImportError that says what to install where there
    is no plotly.
    """
    try:
        from plotly.graph_objects import Figure
    except ModuleNotFoundError:
        raise ImportError(INSTALL) from None
    offer = offer or offer_of(front, baselines, cost)
    cloud, front, baselines = points_to_draw(points, front, baselines, cost)
    figure = Figure()
    if cloud:
        figure.add_trace(_cloud(cloud, cost))
    right = max((_x(p, cost) for p in (*cloud, *front, *baselines)), default=1.0)
    for members, colour, name, line in (
        (baselines, BASELINE, "baselines", "dash"),
        (front, FRONT, "front", "solid"),
    ):
        if members:
            figure.add_traces(_series(members, colour, cost, name, line, right))
    if offer.point is not None and len(front_of(front, (cost,))) > 1:
        figure.add_trace(_ring(offer.point, offer_text(offer, cost), cost))
    if majority is not None:
        figure.add_hline(
            y=majority,
            line={"color": INK, "dash": "dot", "width": 1.3},
            name="always the largest class",
            showlegend=True,
        )
    lowest = lowest_accuracy(cloud, front, baselines)
    if majority is not None:
        lowest = min(lowest, majority)
    headline = summary(study, front, baselines, cost=cost)
    _lay_out(figure, headline, about(points, hypervolume, majority), lowest, cost)
    return figure


def _x(point: PointRecord, cost: Cost) -> float:
    return cost.shown(point)


def _hover(point: PointRecord, cost: Cost) -> str:
    """What is shown beside the mouse. Names of a user's are no tags in it."""
    interval = f"{percent(point.accuracy_low)} to {percent(point.accuracy_high)}"
    lines = [
        f"<b>{training_text(*point.training)}: {percent(point.accuracy, 2)}</b> ({interval})",
        amount(point, cost),
        network_text(point.family, point.params).replace("<", "&lt;"),
        knobs_text(point.knobs).replace("<", "&lt;"),
    ]
    return "<br>".join(lines)


def _cloud(points: Sequence[PointRecord], cost: Cost) -> Scatter:
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[_x(p, cost) for p in points],
        y=[p.accuracy for p in points],
        text=[_hover(p, cost) for p in points],
        mode="markers",
        marker={"size": 5, "color": CLOUD, "opacity": 0.4},
        name="other operating points",
        hoverinfo="text",
        legendrank=3,
    )


def _series(
    members: Sequence[PointRecord], colour: str, cost: Cost, name: str, line: str, right: float
) -> list[Scatter]:
    """The best accuracy that each cost buys as steps, and markers with intervals, diamonds for baselines."""
    from plotly.graph_objects import Scatter

    best = front_of(members, (cost,))
    steps = Scatter(
        x=[*(_x(p, cost) for p in best), right],  # a larger budget buys at least as much
        y=[*(p.accuracy for p in best), best[-1].accuracy],
        mode="lines",
        line={"shape": "hv", "color": colour, "dash": line, "width": 1.4},
        legendgroup=name,
        showlegend=False,
        hoverinfo="skip",
    )
    markers = Scatter(
        x=[_x(p, cost) for p in members],
        y=[p.accuracy for p in members],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, p.accuracy_high - p.accuracy) for p in members],
            "arrayminus": [max(0.0, p.accuracy - p.accuracy_low) for p in members],
            "thickness": 1.3,
            "width": 0,
        },
        text=[_hover(p, cost) for p in members],
        mode="markers",
        marker={
            "size": 9,
            "color": colour,
            "symbol": [DIAMOND if p.kind == "static" else CIRCLE for p in members],
            "line": {"color": "white", "width": 1},
        },
        name=name,
        legendgroup=name,
        hoverinfo="text",
        legendrank=1 if name == "front" else 2,
    )
    return [steps, markers]


def _ring(point: PointRecord, name: str, cost: Cost) -> Scatter:
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[_x(point, cost)],
        y=[point.accuracy],
        mode="markers",
        marker={"size": 17, "symbol": "circle-open", "color": INK, "line": {"width": 1.3}},
        name=name,
        hoverinfo="skip",
        legendrank=4,
    )


def _lay_out(figure: Figure, headline: str, subtitle: str, lowest: float, cost: Cost) -> None:
    top = max((p for trace in figure.data for p in _tops(trace)), default=1.0)
    space = max(0.07 * (top - lowest), 0.005)
    title = "<br>".join(wrap(headline, WIDTH)).replace("&", "&amp;")
    axis: dict[str, Any] = {"gridcolor": "#e9ecef", "title_font_color": SOFT, "tickcolor": SOFT}
    figure.update_layout(
        title={"text": f"<b>{title}</b>", "subtitle": {"text": subtitle}, "font": {"size": 16}},
        template="plotly_white",
        xaxis={"type": "log", "tickformat": "~s", "title": {"text": cost.label}, **axis},
        yaxis={
            "range": [max(0.0, lowest - space), top + space],
            "tickformat": "~%",
            "title": {"text": "validation accuracy"},
            **axis,
        },
        legend={"x": 0.99, "y": 0.02, "xanchor": "right", "yanchor": "bottom"},
        hovermode="closest",
        height=560,
    )


def _tops(trace: Any) -> list[float]:
    """The upper ends of a trace's markers, intervals included."""
    above = trace.error_y.array
    return [y + (0.0 if above is None else above[i]) for i, y in enumerate(trace.y)]
