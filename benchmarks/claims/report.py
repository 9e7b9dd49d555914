"""The table of claims: what was claimed, what was measured, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import isfinite
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.claims.claim import Claim
from benchmarks.claims.every import TITLES
from benchmarks.claims.lab import Lab
from benchmarks.claims.power import power_of
from benchmarks.claims.verdicts import UNDECIDED, Pair, Verdict, spread_of, verdict

STYLES = {"holds": "green", "fails": "red", "undecided": "yellow"}


@dataclass(frozen=True)
class Row:
    """One line of the table; `measured` is how a reader sees the verdict's numbers, `note` what else to know."""

    claim: Claim
    verdict: Verdict
    measured: str
    note: str

    def as_dict(self) -> dict[str, Any]:
        own = {
            k: v if not isinstance(v, float) or isfinite(v) else None
            for k, v in asdict(self.verdict).items()
        }
        claim = {
            name: getattr(self.claim, name)
            for name in ("paper", "name", "statement", "rule", "margin")
        }
        return (
            claim
            | own
            | {"difference": self.verdict.difference, "measured": self.measured, "note": self.note}
        )


def rows(lab: Lab, claims: list[Claim]) -> list[Row]:
    """The verdicts on what has been run so far."""
    return [_row(lab, claim) for claim in claims]


def _row(lab: Lab, claim: Claim) -> Row:
    results, pairs, images = lab.results(claim), lab.pairs(claim), lab.images(claim)
    found = verdict(pairs, claim.rule, margin=claim.margin, images=images)
    note = claim.note(results) if claim.note and results else ""
    lost = len(results) - len(pairs)
    if lost:
        note = f"{lost} of {len(results)} seeds cannot tell; {note}"
    return Row(claim, found, _measured(found, claim) + _power(claim, pairs, images), note)


def _power(claim: Claim, pairs: Sequence[Pair], images: int | None) -> str:
    """What chance these seeds had to decide the claim."""
    if len(pairs) < 2 or claim.rule == "zero":
        return ""
    power = power_of(spread_of(pairs, images), claim.least, len(pairs), sides=claim.sides)
    least = f"{100 * claim.least:g} points" if claim.share else f"{claim.least:g}"
    apart = f"a true difference of 0 within {least}" if claim.margin else f"a difference of {least}"
    return f", which tell {apart} with a chance of {power:.2f}"


def _measured(found: Verdict, claim: Claim) -> str:
    if not found.seeds:
        return "nothing to compare"
    seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
    if claim.rule == "zero":
        return f"{found.ours:.3g} against {found.other:.3g}; {seeds}"
    factor, unit, digits = (100, " %", 1) if claim.share else (1, "", 3)
    ours, other, gap = (
        f"{factor * value:.{digits}f}" for value in (found.ours, found.other, found.difference)
    )
    between = "no interval"
    if isfinite(found.low):
        between = f"[{factor * found.low:+.{digits}f}, {factor * found.high:+.{digits}f}]"
    sign = "+" if found.difference >= 0 else ""
    return f"{ours}{unit} against {other}{unit}: {sign}{gap} {between}; {seeds}"


def table(found: list[Row], title: str) -> Table:
    """For the terminal or a file."""
    whole = Table(title=title, show_lines=True, title_justify="left")
    for name, ratio in (
        ("claim", 4),
        ("measured: ours against the other, difference, 95 % interval", 6),
        ("verdict", 1),
    ):
        whole.add_column(name, ratio=ratio, overflow="fold")
    for paper, group in groupby(found, key=lambda row: row.claim.paper):
        whole.add_row(f"[bold]{TITLES[paper]}[/bold]", "", "")
        for row in group:
            note = f"\n{row.note}" if row.note else ""
            word = row.verdict.word
            told = row.measured.replace("[", r"\[") + note.replace("[", r"\[")
            whole.add_row(
                f"{row.claim.statement}{_rule(row.claim)}", told, f"[{STYLES[word]}]{word}[/]"
            )
    return whole  # fmt: skip


def _rule(claim: Claim) -> str:
    """What the verdict needs, where it is not a difference above 0."""
    words = {
        "below": "holds below 0", "close": f"holds within {100 * claim.margin:g} points",
        "no_worse": f"holds above -{100 * claim.margin:g} points", "zero": "exact",
    }  # fmt: skip
    return f" ({words[claim.rule]})" if claim.rule in words else ""


def markdown(found: list[Row], title: str) -> str:
    """The same for a page."""
    lines = [title, "", "| claim | ours against the other | verdict |", "| --- | --- | --- |"]
    for paper, group in groupby(found, key=lambda row: row.claim.paper):
        lines.append(f"| **{TITLES[paper]}** | | |")
        for row in group:
            word = row.verdict.word if row.verdict.word == UNDECIDED else f"**{row.verdict.word}**"
            lines.append(f"| {row.claim.statement}{_rule(row.claim)} | {row.measured} | {word} |")
    return "\n".join(lines)


def printed(found: list[Row], title: str) -> None:
    console = Console()
    wide = console if console.is_terminal else Console(width=150)
    wide.print(table(found, title))
