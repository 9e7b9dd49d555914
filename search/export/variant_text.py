"""What is said of an exported model's other number formats: on the card, and by the command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from search.export.latency_text import average_ms, latency_text
from search.objectives import macs_text

NAMES = {
    "int8": "8-bit integers (int8)",
    "float16": "weights in 16 bits (float16)",
    "bfloat16": "weights in 16 bits (bfloat16)",
}
HALF = (
    "Half the size, for a download or a small device. All is computed in float32: as slow, as fast."
)
READING = {
    "int8": "Gates, and the last layer of each exit, keep float32: thresholds sit there. The activations before them\n"
    "are rounded all the same, so an image near a threshold may leave elsewhere: MACs differ a little. Ranges were\n"
    "found on validation images.",
    "float16": HALF,
    "bfloat16": HALF,
}
MEASURED = "All was measured at the exported point, in onnxruntime, each file in turn with the one in float32."


def variant_lines(report: dict[str, Any]) -> Iterator[str]:
    """A line or two of each, for the command."""
    for name, found in report.get("variants", {}).items():
        start = f"  {name:<9} "
        if found["file"] is None:
            yield f"{start}not written: {_worse(found)}"
            continue
        test = found["test"]
        yield (
            f"{start}test {test['accuracy']:.2%}, {difference_text(found)} to float32; "
            f"{found['same_answers'] / test['images']:.1%} of the answers are the same"
        )
        for size, ratio in _ratios(found):
            own = found["latency_ms"][f"batch_{size}"]["variant"]
            yield f"            {average_ms(own):.3g} ms at batch {size} in onnxruntime, {ratio:.2f} of float32's"
        yield f"            {found['file']}: {_size(found['bytes'])}, float32 {_size(report['onnx']['bytes'])}"


def variant_rows(report: dict[str, Any], metric: str) -> list[str]:
    """A section of the card in Markdown, a line each; empty where there are no other formats."""
    lines: list[str] = []
    for name, found in report.get("variants", {}).items():
        title = NAMES[name]
        if found["file"] is None:
            lines += ["", f"**{title}**: not written. {_worse(found)}"]
            continue
        lines += ["", *_table(title, found, report, metric), "", READING[name]]
    return ["", "## Other number formats", *lines, "", MEASURED] if lines else []


def _table(title: str, found: dict[str, Any], report: dict[str, Any], metric: str) -> Iterator[str]:
    test, own = report["test"], found["test"]
    yield f"| {title}, on {own['images']} test images | `{found['file']}` | float32 |"
    yield "| --- | --- | --- |"
    yield f"| {metric} (95 % interval) | {_accuracy(own)} | {_accuracy(test)} |"
    yield f"| difference, 95 % interval | {difference_text(found)} | |"
    yield f"| same class as float32 | {found['same_answers']} of {own['images']} | |"
    if (off := found.get("largest_probability_difference")) is not None:
        yield f"largest difference of a probability, where MACs are the same | {off:.2g} | |"
    for key, label in (("mean", "mean"), ("p95", "95th percentile")):
        ours, theirs = own[f"macs_{key}"], test[f"macs_{key}"]
        yield f"| MACs an image, {label} | {macs_text(ours)} | {macs_text(theirs)} |"
    yield f"| size of the file | {_size(found['bytes'])} | {_size(report['onnx']['bytes'])} |"
    for size, ratio in _ratios(found):
        both = found["latency_ms"][f"batch_{size}"]
        ours, theirs = (latency_text(both[which]) for which in ("variant", "float32"))
        yield f"| latency, batch {size}, onnxruntime (ratio {ratio:.2f}) | {ours} | {theirs} |"


def difference_text(found: dict[str, Any]) -> str:
    """In points: "-0.3 points [-0.8, +0.2]"."""
    value, low, high = (100 * found["difference"][key] for key in ("value", "low", "high"))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _worse(found: dict[str, Any]) -> str:
    """Which limit it does not keep; reports of before there were others had that of accuracy alone."""
    limits, images = found.get("limits", {"lost": 0.05, "same": 0.0}), found["test"]["images"]
    text = f"{difference_text(found)} to float32 on the test images"
    if found["difference"]["high"] < -limits["lost"]:
        return f"{text}; more than {100 * limits['lost']:g} points are lost"
    return (
        f"{found['same_answers']} of {images} test images get the same class as in float32, "
        f"fewer than {limits['same']:.0%}; {text}"
    )


def _ratios(found: dict[str, Any]) -> Iterator[tuple[int, float]]:
    for key, both in found["latency_ms"].items():
        yield int(key.removeprefix("batch_")), both["ratio"]


def _accuracy(test: dict[str, Any]) -> str:
    low, high = test["accuracy_low"], test["accuracy_high"]
    return f"{test['accuracy']:.2%} ({low:.1%} to {high:.1%})"


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
