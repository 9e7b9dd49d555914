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
    lines = [
        "## All its operating points",
        "",
        f"The files answer at {len(points)} points of one training, which differ in thresholds alone.",
        "Without thresholds they answer at the one in bold.",
        "",
        f"| point | validation {metric.label} | test {metric.label} (95 % interval) | MACs an image on test, mean |",
        "| --- | --- | --- | --- |",
        *(_row(point) for point in points),
        "",
        "All were measured in the same pass over the test images. Choose by validation: choosing by test flatters.",
        "",
        "A server can take a cheaper one under load:",
        "",
        SNIPPET,
    ]
    return "\n".join(lines) + "\n"


def _row(point: Mapping[str, Any]) -> str:
    validation, test = point["validation"], point["test"]
    number = f"**{point['number']}**" if point["chosen"] else str(point["number"])
    low, high = test["accuracy_low"], test["accuracy_high"]
    measured = f"{test['accuracy']:.2%} ({low:.1%} to {high:.1%})"
    cells = (number, f"{validation['accuracy']:.2%}", measured, macs_text(test["macs_mean"]))
    return f"| {' | '.join(cells)} |"
