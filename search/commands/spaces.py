"""The search space as a person or a program reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spaces.contract.declarations import declaration, declarations
from spaces.contract.space import Dimension

WIDE = 110  # characters of a terminal from which on a dimension is one row of five columns


def as_dict(name: str | None = None) -> dict[str, Any]:
    """{"families": [{"family", "doc", "dimensions": [...]}]}.

    Of a dimension: `range` is what a study searches, `within` what a study file may name, `fine_tuning` what is another
    where trained weights are loaded.
    """
    chosen = [declaration(name)] if name else list(declarations().values())
    return {
        "families": [
            {"family": f.name, "doc": f.doc, "dimensions": [_dimension(d) for d in f.space]}
            for f in chosen
        ]
    }


def print_table(console: Console, name: str | None = None) -> None:
    """One table a family; dimensions that studies leave at their default are dimmed."""
    for one in [declaration(name)] if name else declarations().values():
        console.print(Text.assemble((one.name, "bold"), f": {one.doc}"))
        table = _wide(one.space) if console.width >= WIDE else _narrow(one.space)
        console.print(table)
        console.print("dimmed: not searched unless a study file names it", style="dim")


def _wide(space: Sequence[Dimension]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in ("dimension", "range", "default", "when", "what it does"):
        table.add_column(column, overflow="fold", no_wrap=column == "dimension")
    for d in space:
        cells = (d.name, _span(d), _default(d), d.condition(), d.doc)
        table.add_row(*map(Text, cells), style=None if d.searched else "dim")
    return table


def _narrow(space: Sequence[Dimension]) -> Table:
    """All that is said of a dimension below each other."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("dimension", no_wrap=True)
    table.add_column("range, default, when, what it does", overflow="fold")
    for d in space:
        lines = [f"{_span(d)}; default {_default(d)}"]
        lines += [f"when {d.condition()}"] if d.when else []
        lines += [d.doc] if d.doc else []
        style = None if d.searched else "dim"
        table.add_row(Text(d.name), Text("\n".join(lines)), style=style)
    return table


def _dimension(d: Dimension) -> dict[str, Any]:
    span: Any = (
        list(d.choices) if d.kind == "choice" else {"low": d.low, "high": d.high, "log": d.log}
    )
    kind = "categorical" if d.kind == "choice" else d.kind
    return {
        "name": d.name,
        "kind": kind,
        "range": span,
        "within": list(d.ends) if d.kind != "choice" else None,
        "default": d.default,
        "fine_tuning": dict(d.tuned),
        "when": d.condition(),
        "searched": d.searched,
        "doc": d.doc,
    }


def _span(d: Dimension) -> str:
    """The range that is searched; that of fine-tuning beside it where it is another."""
    if not {"low", "high"} & set(d.tuned):
        return d.allowed()
    tuned = replace(d, tuned={}, **d.tuned)  # type: ignore[arg-type]
    return f"{d.allowed()}; fine-tuning: {tuned.allowed()}"


def _default(d: Dimension) -> str:
    if "default" not in d.tuned:
        return _text(d.default)
    return f"{_text(d.default)}; fine-tuning: {_text(d.tuned['default'])}"


def _text(value: object) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
