"""The model card: what the exported model is, what it costs, how to run it."""

from __future__ import annotations

from typing import Any

from search.export.selection_bias import bias_text
from search.objectives import macs_text
from search.report.text import markdown_text
from storage.records import training_text


def card(description: dict[str, Any]) -> str:
    """Markdown for the exported folder's README.md."""
    task, classes = description["task"], [markdown_text(name) for name in description["classes"]]
    size = f"{task['height']} x {task['width']}, {'gray' if task['channels'] == 1 else 'RGB'}"
    return f"""# {description["study"]}, {training_text(description["kind"], description["trial"])}

An image classifier ({len(classes)} classes, {size}) of the family `{description["family"]}`,
exported by dynafront. It computes per image only what that image needs.

{_measures(description["report"])}

{_how_to_run(description)}

## How it was made

Knobs: {markdown_text(", ".join(f"{k} = {v}" for k, v in description["knobs"].items()))}

{_params(description["params"])}

Training: {_training(**description["epochs"])}

Classes: {", ".join(classes[:20])}{" ..." if len(classes) > 20 else ""}
"""


def _measures(report: dict[str, Any]) -> str:
    """What was measured, as a table, and where."""
    rows = [*_accuracy_rows(report), *_compute_rows(report), *_parity_rows(report["parity"])]
    lines = ["| measure | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    device = report["latency_ms"]["device"]
    advice = "compare the two columns with each other, not with other machines."
    return "\n".join([*lines, "", f"Latency was measured on {device}; {advice}"])


def _accuracy_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    test, validation = report["test"], report["validation"]
    interval = f"{test['accuracy_low']:.1%} to {test['accuracy_high']:.1%}"
    return [
        (
            "test accuracy",
            f"{test['accuracy']:.2%} (95 % interval {interval}, n = {test['images']})",
        ),
        (
            "validation accuracy",
            f"{validation['accuracy']:.2%} (selected on it: expect test to be a little lower)",
        ),
        ("validation - test, 95 % interval", bias_text(report["selection_bias"])),
    ]


def _compute_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    test, gates, latency = report["test"], report["gates"], report["latency_ms"]
    mean, p95, most = (macs_text(test[f"macs_{name}"]) for name in ("mean", "p95", "max"))
    saving = 1 - test["macs_mean"] / report["plain_macs"]
    return [
        ("MACs an image", f"mean {mean}, p95 {p95}, max {most}"),
        (
            "baseline of the same backbone",
            f"{macs_text(report['plain_macs'])} MACs: {saving:.0%} saved on average",
        ),
        ("parameters", f"{report['parameters']:,} ({report['parameters_trained']:,} trained)"),
        (
            "gates",
            f"{gates['dynamic']} decide per image, {gates['removed_open']} settled open, "
            f"{gates['removed_closed']} settled closed and cut out",
        ),
        ("median latency, batch 1", _latency(latency["batch_1"])),
        ("median latency, batch 64", _latency(latency["batch_64"])),
    ]


def _parity_rows(parity: dict[str, Any]) -> list[tuple[str, str]]:
    images, before = parity["images"], parity["same_answers_before_removing_gates"]
    return [
        (
            "parity with the trained network",
            f"{parity['same_answers']} of {images} answers equal, "
            f"logits within {parity['largest_logit_difference']:.1e}",
        ),
        ("before settled gates were removed", f"{before} of {images} answers equal"),
    ]


def _how_to_run(description: dict[str, Any]) -> str:
    task = description["task"]
    shape = f"{task['channels']}, {task['height']}, {task['width']}"
    return f"""## Run it

    dynafront predict . IMAGE...

or with ONNX Runtime, on float32 pixels in [0, 1] of shape (batch, {shape}):

    import onnxruntime
    session = onnxruntime.InferenceSession("model.onnx")
    logits = session.run(None, {{"pixels": pixels}})[0]

{_prepared(description["preprocessing"], task["channels"])}

`model.json` holds all that is needed to rebuild the network (architecture, thresholds, preprocessing, classes),
`model.safetensors` its weights. {_skipping(description["network"]["deployed"])}"""


def _params(params: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {markdown_text(str(value))}" for name, value in params.items())


def _prepared(how: dict[str, Any], channels: int) -> str:
    """How an image becomes these pixels."""
    fitted = {
        "crop": "cut to its largest centred part with this aspect ratio and resized",
        "pad": "resized to fit, with black borders",
        "squash": "resized to this size whatever its aspect ratio",
    }[how["resize"]]
    text = f"An image is turned as its EXIF tag says, put on white where it is transparent, and {fitted}."
    if channels == 1:
        text += f" Gray images of more than 8 bits are read as {how['bits']}-bit ones."
    return text


def _training(planned: int, trained: int) -> str:
    return (
        f"{planned} epochs"
        if trained == planned
        else f"stopped after {trained} of {planned} epochs"
    )


def _skipping(form: str) -> str:
    """What each of the two files computes."""
    if form == "resnet":
        return (
            "Blocks are skipped for real at batch 1; in a batch, a block runs\nwhen any image needs it (ONNX) or for "
            "just the images that need it (dynafront)."
        )
    return (
        "dynafront computes only what an image needs. The ONNX file gives\nthe same answers but computes everything "
        "and chooses afterwards: it is for portability, not for speed."
    )


def _latency(ms: dict[str, float]) -> str:
    return f"{ms['exported']:.2f} ms, baseline {ms['static']:.2f} ms (ratio {ms['ratio']:.2f})"
