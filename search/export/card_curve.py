"""The part of the model card that shows the operating points of the file, and how to change between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.objectives import macs_text
from trainers.metrics import ACCURACY, METRICS

SNIPPET = """    import json
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # onnxruntime warns that thresholds are no constants
    session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
    with open("model.json", encoding="utf-8") as file:
        points = json.load(file)["points"]

    def answer(pixels, busy):
        # the cheapest point while requests are waiting, else the one that was chosen
        point = points[0] if busy else next(p for p in points if p["chosen"])
        thresholds = np.array(point["thresholds"])
        return session.run(["logits"], {"pixels": pixels, "thresholds": thresholds})[0]
"""


def curve_text(description: Mapping[str, Any]) -> str:
    """A section with a blank line behind it; empty where the file has one point alone."""
    points = description.get("points", [])
    if len(points) < 2:
        return ""
    metric = METRICS[description["report"].get("metric", ACCURACY.name)]
    chosen_on, measured_on = _told(description)
    lines = [
        "## All its operating points",
        "",
        f"The files answer at {len(points)} points of one training, which differ in thresholds alone.",
        "Without thresholds they answer at the one in bold.",
        "",
        f"| point | {metric.label}, {chosen_on} | {metric.label}, {measured_on} (95 % interval) | MACs there, mean |",
        "| --- | --- | --- | --- |",
        *(_row(point) for point in points),
        "",
        "All were measured in the same pass. Choose by the left column: a choice by the right one flatters it.",
        "",
        "A server can take a cheaper one under load:",
        "",
        SNIPPET,
    ]
    return "\n".join(lines) + "\n"


def retuned_text(description: Mapping[str, Any]) -> str:
    """That thresholds were chosen again, with a blank line behind it; empty where they were not."""
    retuned = description.get("retuned")
    if retuned is None:
        return ""
    before, after = retuned["before"], retuned["after"]
    metric = METRICS[description["report"].get("metric", ACCURACY.name)]
    return (
        f"**Thresholds were chosen again** on {retuned['chosen_on']} new images. On {retuned['measured_on']} others, "
        f"before and after:\n{metric.label} {before['accuracy']:.2%} and {after['accuracy']:.2%}, mean MACs "
        f"{macs_text(before['macs_mean'])} and {macs_text(after['macs_mean'])}.\n"
        "The measurements below are those of the thresholds before.\n\n"
    )


def _told(description: Mapping[str, Any]) -> tuple[str, str]:
    """On which images points were chosen, and measured."""
    retuned = description.get("retuned")
    if retuned is None:
        return "validation", "test"
    return f"{retuned['chosen_on']} new images", f"{retuned['measured_on']} other new images"


def _row(point: Mapping[str, Any]) -> str:
    validation, test = point["validation"], point["test"]
    number = f"**{point['number']}**" if point["chosen"] else str(point["number"])
    low, high = test["accuracy_low"], test["accuracy_high"]
    measured = f"{test['accuracy']:.2%} ({low:.1%} to {high:.1%})"
    cells = (number, f"{validation['accuracy']:.2%}", measured, macs_text(test["macs_mean"]))
    return f"| {' | '.join(cells)} |"
