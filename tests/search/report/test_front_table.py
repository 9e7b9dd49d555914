"""Fronts as tables fit the terminal: numbers are whole, the network's description is last and folded."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from search.commands import finalists
from search.report.front_table import terminal_table
from search.report.text import knobs_text, network_text
from storage.records import Kind, PointRecord

WIDTHS = (60, 80, 110, 140)
EXITS = {
    "policy": "always_on",
    "exit_rule": "entropy",
    "exit_thresholds": [0.512, 0.634, 0.711, 0.802, 0.9],
    "fallback": "ensemble",
}
PARAMS = {
    "backbone": "resnet110",
    "width": 0.25,
    "granularity": "joint",
    "exits": "conv",
    "attention": "spatial",
    "gate": "dependent",
    "loss": "const_quad_per_gate",
    "target": 0.234,
}


def point(number: int, kind: Kind = Kind.SEARCH) -> PointRecord:
    return PointRecord(
        trial=number, id=number, kind=kind, family="gated_resnet", params=PARAMS, knobs=EXITS, accuracy=0.98765,
        accuracy_low=0.975, accuracy_high=0.99312, macs_mean=1.2345e9, macs_p95=1.3579e9, macs_max=2e9, parameters=10,
    )  # fmt: skip


def printed(thing: RenderableType, width: int) -> str:
    written = io.StringIO()
    Console(file=written, width=width, color_system=None).print(thing)
    return written.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_are_never_cut_and_no_word_of_the_network_is_lost(width: int) -> None:
    points = [point(123), point(12, Kind.BASELINE)]
    text = printed(terminal_table(points, width), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "\u2026" not in text
    for name in (points[0].name, points[1].name):
        (row,) = (line.split() for line in lines if name in line)
        assert "98.77%" in row
        assert row[0] in ("123", "12"), "the point's id comes first"
        assert "1.23 G" in " ".join(row)
    for word in (network_text("gated_resnet", PARAMS) + " " + knobs_text(EXITS)).split():
        assert text.count(word) >= 2, word


@pytest.mark.parametrize("width", WIDTHS)
def test_the_network_is_last(width: int) -> None:
    header = printed(terminal_table([point(1)], width), width).splitlines()[0]
    assert header.split()[-1] == ("network" if width >= 140 else "knobs")
    assert ("95 % interval" in header) is (width >= 80)


@pytest.mark.parametrize("width", WIDTHS)
def test_finalists_fit_too(width: int) -> None:
    row = {
        "trial": 1234,
        "costs": {"macs_mean": 1.2345e9},
        "searched": 0.98765,
        "accuracies": (0.9, 0.91, 0.92),
        "seeds": 3,
        "mean": 0.91,
        "low": 0.88,
        "high": 0.934,
        "dominated_by": 1233,
    }
    text = printed(finalists._table({"points": [row]}, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\u2026" not in text
    for cell in ("1234", "1.23 G", "98.77%", "91.00%", "3 of 3", "trial 1233"):
        assert cell in text
    assert ("88.0% - 93.4%" in text) is (width >= 80)
