"""What an export says when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.export.card import gates_text, metric_of_report, threads_text
from search.export.latency_text import latency_text
from search.export.limits import limit_texts
from search.export.predicted import machine_text, predicted_text
from search.export.program_text import program_lines
from search.export.selection_bias import bias_text
from search.export.variant_text import variant_lines
from search.objectives import macs_text
from trainers.metrics import ACCURACY, TOP5, Metric


def export_lines(folder: Path | str, report: dict[str, Any], points: int) -> list[str]:
    """What came out, in lines: measures beside the static network, and how to go on."""
    test, static, parity = report["test"], report["static"], report["parity"]
    metric = metric_of_report(report)
    own = f"mean {macs_text(test['macs_mean'])}, p95 {macs_text(test['macs_p95'])}, max {macs_text(test['macs_max'])}"
    lines = [
        f"{folder}: test {metric.label} {test['accuracy']:.2%} "
        f"({test['accuracy_low']:.1%} to {test['accuracy_high']:.1%}, n = {test['images']})",
        *([f"  top-1     {test['top1']:.2%} accuracy"] if metric is not ACCURACY else []),
        *(
            [f"  top-5     {test['top5']:.2%} accuracy"]
            if "top5" in test and metric is not TOP5
            else []
        ),
        f"  validation - test: {bias_text(report['selection_bias'], metric)}",
        f"  MACs      {own}",
        *_latency_lines(report["latency_ms"]),
        *([f"  by table  {text}"] if (text := predicted_text(report)) else []),
        *([f"            {text}"] if (text := machine_text(report)) else []),
        *[f"  limit     {text}" for text in limit_texts(report)],
        f"  beside    {static['name']}: {_static_text(static, metric)}",
        f"            {static['why']}",
        *(
            [f"            the exported model is {static['standing']}"]
            if static["standing"]
            else []
        ),
        *([f"  gates     {gates_text(report)}"] if any(report["gates"].values()) else []),
        f"  parity    {parity['same_answers']} of {parity['images']} answers as the trained network's",
        *(
            [f"  points    {points} in the file: {folder}/README.md lists them"]
            if points > 1
            else []
        ),
        f"  try it    dynafront predict {folder} IMAGE",
    ]
    lines[-1:-1] = [*program_lines(report), *variant_lines(report)]
    if not report["dynamic"]:
        lines.insert(
            2, "  static: no gate or exit decides anything; every image takes the same computation"
        )
    return lines


def _latency_lines(latency: dict[str, Any]) -> Iterator[str]:
    """Batch 1 in each runtime: means over images, and the middle half of the runs."""
    for runtime, found in latency["batch_1"].items():
        own, static = found["exported"], found["static"]
        yield (
            f"  latency   {latency_text(own)} at batch 1 in {runtime}, {threads_text(latency)}; static "
            f"{latency_text(static)}, ratio {found['ratio']:.2f}"
        )


def _static_text(static: dict[str, Any], metric: Metric) -> str:
    cost = f"{macs_text(static['macs_mean'])} MACs, {static['parameters']:,} parameters"
    if not static["trained"]:
        return cost
    return f"test {metric.label} {static['accuracy']:.2%}, {cost}"
