"""What a model card says of a cascade."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search.report.text import member_text

Settings = Callable[[dict[str, Any], dict[str, Any]], str]  # of knobs, and where a member is from


def cascade_text(description: dict[str, Any], settings: Settings) -> str:
    """Who sees an image when, then each member's own settings and training, as `settings` writes them."""
    knobs, shares = description["knobs"], description["report"]["shares"]
    sure = "highest probability"
    if knobs["rule"] == "margin":
        sure = "difference of the two highest probabilities"
    lines = [f"{member_text(knobs['members'][0]).capitalize()} sees every image."]
    for one, threshold, share in zip(
        knobs["members"][1:], knobs["thresholds"], shares[1:], strict=True
    ):
        lines.append(
            f"Where the {sure} is at most {threshold:.4g}, the image goes on to {member_text(one)}: "
            f"{share:.1%} of the test images."
        )
    lines.append(
        "The answer is the mean of the probabilities of all that saw the image."
        if knobs["committee"]
        else "The last one that saw the image answers."
    )
    if len({one["task"]["height"] for one in description["network"]["members"]}) > 1:
        lines.append("Smaller images are made inside of the model, bilinear and antialiased.")
    parts = [" ".join(lines)]
    for named, origin in zip(knobs["members"], description["members"], strict=True):
        parts += [
            f"### {member_text(named).capitalize()}, of the family `{origin['family']}`",
            settings(named["knobs"], origin),
        ]
    return "\n\n".join(parts)
