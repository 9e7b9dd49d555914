"""Networks and run-time settings in a few words, for tables, titles and pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from spaces.contract.cascades import CASCADE, is_cascade
from spaces.contract.declarations import declaration
from spaces.contract.resolution import IMAGE_SIZE
from storage.records import Kind, training_text

HIDDEN = ("exit_temperatures", "exit_judges")  # many numbers that say nothing to a reader


def markdown_text(text: str) -> str:
    """Text in one line that Markdown shows as it is: in it begins no tag, link, picture, code, emphasis or cell."""
    return re.sub(r"[\\`*|\[\]]", r"\\\g<0>", " ".join(escape(text, quote=False).split()))


def knobs_text(knobs: Mapping[str, Any]) -> str:
    """Knobs in a few words."""
    if is_cascade(knobs):
        return cascade_text(knobs)
    words = [str(knobs.get("policy", "threshold")).replace("_", " ")]
    if isinstance(tau := knobs.get("tau"), int | float):
        words.append(f"> {tau:g}")
    elif tau is not None:
        words.append("> tau by gate")
    if "passes" in knobs:
        words.append(f"x{knobs['passes']}")
    if "prune" in knobs:
        words.append("pruned")
    if "recalibrate" in knobs:
        words.append("recalibrated")
    if "exit_rule" in knobs:
        thresholds = knobs.get("exit_thresholds")
        assert isinstance(thresholds, list | tuple)
        shown = " ".join("all" if t < 0 else "none" if t >= 1 else f"{t:.2f}" for t in thresholds)
        words = ([] if words == ["always", "on"] else [*words, "+"]) + [
            f"exits {knobs['exit_rule']} > {shown}"
        ]
        words += ["else ensemble"] if knobs.get("fallback") == "ensemble" else []
    if "order" in knobs:
        words.append(f"{knobs['order']} order")
    if isinstance(keep := knobs.get("keep"), list | tuple):
        words.append(f"layers {','.join(map(str, keep))}")
    return " ".join(words)


def cascade_text(knobs: Mapping[str, Any]) -> str:
    """Who comes first, and who is asked next: "trial 3 at 64 px first; 37 % go on to trial 8 at 96 px"."""
    first, *others = knobs["members"]
    words = [f"{member_text(first)} first"]
    words += [
        f"{one['share']:.0%} go on to {member_text(one)}".replace("%", " %") for one in others
    ]
    return "; ".join(words) + ("; mean of all answers" if knobs["committee"] else "")


def member_text(member: Mapping[str, Any]) -> str:
    """A member of a cascade: its training, and the size of its images where a study has several."""
    size = f" at {member[IMAGE_SIZE]} px" if IMAGE_SIZE in member else ""
    return training_text(Kind(member["kind"]), member["trial"]) + size


def network_text(family_name: str, params: Mapping[str, Any]) -> str:
    """A network in a few words: its family, size, and what makes it dynamic. Raises ValueError for no known family."""
    if family_name == CASCADE:
        return "several networks"
    own = declaration(family_name)
    size = " ".join(
        words.format(params[name]) for name, words in own.size_words.items() if name in params
    )
    if IMAGE_SIZE in params:
        size += f" at {params[IMAGE_SIZE]} px"
    if params.get("gated") is False:
        cut = params.get("truncated")
        return f"baseline {size}" + ("" if cut is None else f" up to exit place {cut}")
    traits = (params.get(name) for name in own.traits)
    words = [
        f"{v:.2f}" if isinstance(v, float) else str(v)
        for v in traits
        if v is not None and v != "none"
    ]
    return " ".join([family_name, size, *words])


def describing_params(families: Iterable[str], *, sides: bool = False) -> list[str]:
    """Names of the parameters that `network_text` puts into words, sizes first, for networks of these families.

    `sides`: the size of the images is one of them.
    """
    known = [declaration(name) for name in families]
    sizes = [name for each in known for name in each.size_dimensions]
    traits = [name for each in known for name in each.traits]
    return list(dict.fromkeys([*sizes, *([IMAGE_SIZE] if sides else []), *traits]))


def readable_knobs(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs without what only a program reads, thresholds of exits in short."""
    shown = {name: value for name, value in knobs.items() if name not in HIDDEN}
    if is_cascade(knobs):
        shown |= {"members": cascade_text(knobs), "thresholds": _short(knobs["thresholds"])}
    if "exit_thresholds" in shown:
        shown["exit_thresholds"] = _short(shown["exit_thresholds"])
    return shown


def _short(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.3g}" for number in numbers)
