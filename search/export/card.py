"""The model card: what the exported model is, what it costs, how to run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.export.card_curve import curve_text, retuned_text
from search.export.cascade_card import cascade_text
from search.export.folder import BATCHES
from search.export.latency_text import latency_text
from search.export.limits import limit_rows
from search.export.predicted import predicted_rows
from search.export.program_text import program_text
from search.export.selection_bias import bias_text
from search.export.variant_text import variant_rows
from search.objectives import macs_text
from search.report.text import markdown_text
from storage.records import training_text
from trainers.metrics import ACCURACY, METRICS, TOP5, Metric


def card(description: dict[str, Any]) -> str:
    """Markdown for the exported folder's README.md."""
    task, classes = description["task"], [markdown_text(name) for name in description["classes"]]
    size = f"{task['height']} x {task['width']}, {'gray' if task['channels'] == 1 else 'RGB'}"
    return f"""# {description["study"]}, {training_text(description["kind"], description["trial"])}

An image classifier ({len(classes)} classes, {size}) {_what(description)},
exported by dynafront. {_computes(description["report"]["dynamic"])}{_ends(description["network"])}

{retuned_text(description)}{_measures(description["report"])}

{curve_text(description)}{_how_to_run(description)}
{program_text(description)}
## How it was made

{_made(description)}

Classes: {", ".join(classes[:20])}{" ..." if len(classes) > 20 else ""}
"""


def _what(description: dict[str, Any]) -> str:
    if "members" in description:
        return f"of {len(description['members'])} networks one after another"
    return f"of the family `{description['family']}`"


def _made(description: dict[str, Any]) -> str:
    """Settings and training of the network, or of each member of a cascade."""
    if "members" in description:
        return cascade_text(description, _settings)
    return _settings(description["knobs"], description)


def _settings(knobs: dict[str, Any], origin: dict[str, Any]) -> str:
    """Knobs, parameters and length of a training."""
    shown = markdown_text(", ".join(f"{k} = {v}" for k, v in knobs.items()))
    return f"""Knobs: {shown}

{_params(origin["params"])}

Training: {_training(**origin["epochs"])}"""


def metric_of_report(report: dict[str, Any]) -> Metric:
    """By which metric the report's `accuracy` was measured."""
    return METRICS[report.get("metric", ACCURACY.name)]


def _computes(dynamic: bool) -> str:
    if dynamic:
        return "It computes per image only what that image needs."
    return "It is static: no gate or exit decides anything, and every image takes the same computation."


def _ends(network: dict[str, Any]) -> str:
    """Where a network ends before its last layer."""
    if (place := network.get("ends_at")) is None:
        return ""
    return (
        f"\nIt ends at exit {place + 1}: images that left at no exit before are answered there, and what lies behind "
        "is not in the files."
    )


def _measures(report: dict[str, Any]) -> str:
    """What was measured beside a static network, what is known of the export, and where."""
    static, latency = report["static"], report["latency_ms"]
    metric = metric_of_report(report)
    name = markdown_text(static["name"])
    lines = [f"| on {report['test']['images']} test images | this model | {name} |"]
    lines += ["| --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in beside_rows(report, metric)]
    lines += [
        "",
        f"Beside it: {markdown_text(static['why'])}. {_standing(static, metric)}".rstrip(),
        "",
    ]
    lines += ["| measure | value |", "| --- | --- |"]
    rows = [
        *_accuracy_rows(report, metric),
        *_compute_rows(report),
        *predicted_rows(report),
        *limit_rows(report),
        *_parity_rows(report["parity"]),
    ]
    lines += [f"| {what} | {value} |" for what, value in rows]
    others = variant_rows(report, metric.label)
    return "\n".join([*lines, "", _latency_note(latency), *others])


def _latency_note(latency: dict[str, Any]) -> str:
    """Where latency was measured, and how to read it."""
    versions = ", ".join(f"{runtime} {version}" for runtime, version in latency["versions"].items())
    where = f"{latency['device']}, {threads_text(latency)}; {versions}"
    kept = "mean" in next(iter(latency["batch_1"].values()))["exported"]
    average = "the mean over images, or batches of them" if kept else "the median"
    return (
        f"Latency: {average}, and the middle half of all runs, on {where}.\n"
        "The two columns were measured in turn: compare them with each other, not with other machines."
    )


def threads_text(latency: dict[str, Any]) -> str:
    """How many threads latency was measured with."""
    return f"{latency['threads']} thread{'s' * (latency['threads'] > 1)}"


def _standing(static: dict[str, Any], metric: Metric) -> str:
    """How the model compares with the static network on the test images."""
    if static["standing"] is None:
        return ""
    return f"On these images this model is {static['standing']} ({metric.test}, 95 %)."


def beside_rows(report: dict[str, Any], metric: Metric) -> Iterator[tuple[str, str, str]]:
    """The same measures of this model and of the static network."""
    test, static = report["test"], report["static"]
    yield f"{metric.label} (95 % interval)", _accuracy(test), _accuracy(static)
    if metric is not ACCURACY:
        yield "top-1 accuracy", _share(test, "top1"), _share(static, "top1")
    if metric is not TOP5 and "top5" in test:
        yield "top-5 accuracy", _share(test, "top5"), _share(static, "top5")
    for name, label in (("mean", "mean"), ("p95", "95th percentile"), ("max", "maximum")):
        key = f"macs_{name}"
        yield f"MACs an image, {label}", macs_text(test[key]), macs_text(static[key])
    yield "parameters", f"{report['parameters']:,}", f"{static['parameters']:,}"
    for size in BATCHES:
        for runtime, found in report["latency_ms"][f"batch_{size}"].items():
            own, other = latency_text(found["exported"]), latency_text(found["static"])
            yield f"latency, batch {size}, {runtime}", own, other


def _accuracy(measured: dict[str, Any]) -> str:
    if "accuracy" not in measured:
        return "not trained"
    interval = f"{measured['accuracy_low']:.1%} to {measured['accuracy_high']:.1%}"
    return f"{measured['accuracy']:.2%} ({interval})"


def _share(measured: dict[str, Any], name: str) -> str:
    return f"{measured[name]:.2%}" if name in measured else "not trained"


def _accuracy_rows(report: dict[str, Any], metric: Metric) -> list[tuple[str, str]]:
    validation = report["validation"]
    return [
        (
            f"validation {metric.label}",
            f"{validation['accuracy']:.2%} (selected on it: {_expect(validation)})",
        ),
        ("validation - test, 95 % interval", bias_text(report["selection_bias"], metric)),
    ]


def _expect(validation: dict[str, Any]) -> str:
    expected = validation.get("expected")
    if expected is None:
        return "expect test to be a little lower"
    return f"{expected:.1%} was to be expected of other images"


def _compute_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    saving = 1 - report["test"]["macs_mean"] / report["plain_macs"]
    change = f"{saving:.1%} fewer" if saving >= 0 else f"{-saving:.1%} more"
    return [
        (
            "MACs of the same backbone, static",
            f"{macs_text(report['plain_macs'])}: this model takes {change} on average",
        ),
        ("gates", gates_text(report)),
    ]


def gates_text(report: dict[str, Any]) -> str:
    """How many gates decide, how many were settled, and whether what they closed still lies in the files."""
    gates, left, trained = report["gates"], report["parameters"], report["parameters_trained"]
    settled = gates["removed_open"] + gates["removed_closed"]
    if not settled:
        return f"{gates['dynamic']} decide per image"
    counts = (
        f"{gates['dynamic']} decide per image, {gates['removed_open']} settled open, "
        f"{gates['removed_closed']} settled closed"
    )
    if left < trained:
        return f"{counts}; {trained - left:,} of {trained:,} parameters cut out"
    return f"{counts}; settled gates are not run, and their weights stay in the files"


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

or with ONNX Runtime, on float32 pixels in [0, 1] of shape (batch, {shape}). This program needs nothing of dynafront:

```python
{standalone_program().strip()}
```

{_prepared(description["preprocessing"], task["channels"])}
The same for JavaScript and C++ is in dynafront's docs/export.md.

`model.json` holds all that is needed to rebuild the network (architecture, thresholds, preprocessing, classes),
`model.safetensors` its weights. {_skipping(description["report"])}"""


def standalone_program(folder: str = ".") -> str:
    """A program that classifies an image file with the model in a folder."""
    text = Path(__file__).with_name("standalone.py").read_text(encoding="utf-8")
    return text.replace('Classifier("exported")', f"Classifier({folder!r})")


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
    if (share := how.get("crop_pct", 1.0)) != 1:
        text += f" Of both sides {share:g} is used, the centre."
    if how.get("interpolation", "bilinear") != "bilinear":
        text += f" It is resized by {how['interpolation']} interpolation."
    if channels == 1:
        text += f" Gray images of more than 8 bits are read as {how['bits']}-bit ones."
    return text


def _training(planned: int, trained: int, kept: int | None = None) -> str:
    length = f"{planned} epochs"
    if trained != planned:
        length = f"stopped after {trained} of {planned} epochs"
    if kept in (None, trained):
        return length
    return f"{length}; the weights are those of epoch {kept}, the most accurate one on validation"


def _skipping(report: dict[str, Any]) -> str:
    """What each of the two files computes."""
    if not report["dynamic"]:
        return "Both compute\nthe same for every image."
    return (
        "What an image does not need is not\ncomputed at batch 1; in a batch, what any image needs is computed for all "
        "(ONNX), or for\njust the images that need it (dynafront). Single channels are skipped by dynafront alone."
    )
