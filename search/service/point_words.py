"""What an operating point is, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.objectives import macs_text
from search.report.amounts import macs, percent
from search.report.text import member_text
from spaces.contract.cascades import CASCADE, is_cascade
from storage.records import Kind, PointRecord

SAME = 1.005  # costs within this factor are called equal
ALWAYS = 0.995  # open rates from which on a gate is called always open
END = "the end"  # of a network, where images are answered that left at no exit
HEADS = {
    "deepest": "the deepest head",
    "ensemble": "the mean of all heads",
}  # where both answer some


def point_words(p: PointRecord, whole: PointRecord | None) -> list[str]:
    """A few sentences; `whole` is the static network of the same size, where the study trained it."""
    return list(_sentences(p, whole))


def _sentences(p: PointRecord, whole: PointRecord | None) -> Iterator[str]:
    if p.kind == Kind.BASELINE:
        yield f"A static network: every image takes {macs(p.macs_mean)}."
        return
    if is_cascade(p.knobs):
        yield from _cascade(p.knobs)
    if p.macs_max <= SAME * p.macs_mean:
        yield f"Every image takes {macs(p.macs_mean)}."
    else:
        yield (
            f"An image takes {macs(p.macs_mean)} on average; one in twenty takes {macs_text(p.macs_p95)} or more, "
            f"none more than {macs_text(p.macs_max)}."
        )
    if whole is not None:
        yield f"That is {percent(p.macs_mean / whole.macs_mean, 0)} of its static network's {macs(whole.macs_mean)}."
    yield from _gates(p)
    yield from _exits(p)
    yield from _rest(p)
    if p.top5 is not None:
        yield f"For {percent(p.top5)} of the images the right class is among the five likeliest."


def _gates(p: PointRecord) -> Iterator[str]:
    """Gates of whole layers: how many are open on average, and which are settled."""
    if p.knobs.get("policy") in ("always_on", "scaled_on", CASCADE):
        return
    rates = {name: units[0] for name, units in p.extra.get("rates", {}).items() if len(units) == 1}
    if not rates:
        return
    opened = sum(rate >= ALWAYS for rate in rates.values())
    closed = sum(rate <= 1 - ALWAYS for rate in rates.values())
    yield (
        f"Of {len(rates)} layers with a gate {sum(rates.values()):.1f} are computed on average: {opened} always, "
        f"{closed} never, {len(rates) - opened - closed} as the image asks for."
    )


def _cascade(knobs: Mapping[str, Any]) -> Iterator[str]:
    """Who is asked in which order, when, and whose answer counts."""
    sure = (
        "top probability"
        if knobs["rule"] == "maxprob"
        else "margin of the two highest probabilities"
    )
    first, *others = knobs["members"]
    yield f"{member_text(first).capitalize()} sees every image first."
    for one, threshold in zip(others, knobs["thresholds"], strict=True):
        share = percent(one["share"], 0)
        yield f"{share} of the images, with a {sure} of at most {threshold:.3g} so far, go on to {member_text(one)}."
    if knobs["committee"]:
        yield "The answer is the mean of the probabilities of all that saw the image."
    else:
        yield "The last one that saw the image answers."


def shares_by_exit(p: PointRecord) -> dict[str, float]:
    """Which share of the images each exit answers, by its name; empty where there are no exits."""
    rows = p.extra.get("exits") or []
    # of points stored before exits had names the last one is the end, whoever answers there
    ends = [row for row in rows if row.get("name") in HEADS] or rows[-1:]
    early = rows[: len(rows) - len(ends)]
    found = {f"exit {place}": row["share"] for place, row in enumerate(early, 1)}
    if len(ends) > 1 and all(row["share"] > 0 for row in ends):
        return found | {HEADS[row["name"]]: row["share"] for row in ends}
    return found | ({END: sum(row["share"] for row in ends)} if ends else {})


def _exits(p: PointRecord) -> Iterator[str]:
    shares = {name: percent(share, 0) for name, share in shares_by_exit(p).items()}
    if shares and "exit_rule" in p.knobs:
        early = ", ".join(share for name, share in shares.items() if name.startswith("exit"))
        ends = [f"{shares[name]} by {name}" for name in HEADS.values() if name in shares]
        end = ", ".join(ends) or f"{shares[END]} at {END}"
        yield f"It answers {early} of the images at its early exits, {end}."


def _rest(p: PointRecord) -> Iterator[str]:
    if keep := p.knobs.get("keep"):
        yield f"It runs {len(keep)} of its layers, the others are left out for good."
    if "recalibrate" in p.knobs:
        yield "Its batch-norm statistics are measured again for this setting."
