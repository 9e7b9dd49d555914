"""What is checked and said of device and images before anything is trained: all that the search and its export need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from search.commands.same_data import changed_data
from search.run.data import data_spec, load_data
from search.spec import StudySpec
from trainers.answers import Ints
from trainers.data.broken import check_decodes
from trainers.data.decode import BrokenImageError
from trainers.data.fingerprint import digest, fingerprint
from trainers.data.images import Images
from trainers.data.sources import has_test
from trainers.data.splits import DataSpec, ImageData, opened, test_images
from trainers.data.streamed import StreamedPixels
from trainers.execution import best_device, check_precision
from trainers.metrics import ACCURACY, Metric
from trainers.significance import Share, mean_of_shares, wilson

UNEVEN = 3  # times the smallest class, from which on the largest is worth a warning
SHOWN = 6  # classes in that warning
TYPICAL = 0.9  # accuracy whose interval is told where there are few images
WIDE = 0.03  # of accuracy, to either side: from there on it is told

Say = Callable[[str], None]


def check_device(device: str, precision: str = "auto") -> None:
    """Raises ValueError for a device that is not there, and for a number format that it is not for."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"run.device: cuda: torch {torch.__version__} finds no GPU here; write `device: auto` or `device: cpu`, or "
            "install a torch that has CUDA"
        )
    check_precision(precision, best_device() if device == "auto" else device)


def checked_data(
    spec: StudySpec, before: Mapping[str, Any], say: Say, lists: Path
) -> dict[str, Any]:
    """What tells the study's images from changed ones, for its record, which holds `before` so far.

    Train and validation are read as the search will read them. Test images are decoded to find broken ones, and are
    not measured. What a person should know is said, a line each. Raises ValueError for what export or training would
    stumble over, and where the images are not those that the study began with. Images that are left out are listed in a
    file in `lists`.
    """
    wanted = data_spec(spec)
    try:
        data = load_data(wanted)
        now = fingerprint(wanted, data)
        if before:
            changed_data(spec.study, before, now)
        streamed = (isinstance(one.pixels, StreamedPixels) for one in (data.train, data.validation))
        if any(streamed) and not before:
            check_decodes(opened(wanted, "train"))
        test = test_images_of(wanted)
        now["test"] = digest(test) if test else None
        if test and now["test"] != before.get("test"):
            check_decodes(test)
    except BrokenImageError as error:
        raise ValueError(
            f"{error}; `skip_broken: true` in the study file leaves out all that are broken"
        ) from None
    spec.metric.check(len(data.classes))
    now["majority"] = majority(data, spec.metric)
    _tell(spec, data, test, say, lists)
    return now


def test_images_of(wanted: DataSpec) -> Images | None:
    """The test images, not decoded; None where a study holds out none and has none."""
    if wanted.test is None and not has_test(wanted.source):
        return None
    return test_images(wanted)


test_images_of.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it


def _tell(spec: StudySpec, data: ImageData, test: Images | None, say: Say, lists: Path) -> None:
    if len(spec.image_sizes) > 1:
        *some, last = spec.image_sizes
        say(f"images of {', '.join(map(str, some))} and {last} pixels a side are tried")
    for line in data.notes:
        say(line)
    if test is None:
        say("there are no test images, and this study holds out none: export will need some")
    else:
        for line in test.notes:
            if line not in data.notes:
                say(line)
    if line := uneven_text(data, spec.class_weights, spec.metric):
        say(line)
    if line := few_text(class_sizes(data), spec.metric):
        say(line)
    if broken := [*data.left_out, *(test.left_out if test else ())]:
        lists.mkdir(parents=True, exist_ok=True)
        file = lists / f"{spec.study}-left-out.txt"
        file.write_text("".join(f"{name}\n" for name in broken), encoding="utf-8", errors="replace")
        say(f"all images that are left out: {file}")


def class_sizes(data: ImageData) -> Ints:
    """(C,) validation images of each class."""
    sizes: Ints = data.validation.labels.bincount(minlength=len(data.classes)).numpy()
    return sizes


def majority(data: ImageData, metric: Metric) -> float:
    """What always answering the largest class has on the validation images, by the metric."""
    return metric.constant(class_sizes(data))


def few_text(images_C: Ints, metric: Metric = ACCURACY) -> str:
    """A warning with the interval that so few validation images leave, where it is a wide one; else empty."""
    images, what, of_smallest = int(images_C.sum()), f"the {metric.label}", ""
    _, low, high = Share(TYPICAL, *wilson(TYPICAL, images))
    if metric.of_classes:
        sizes = [int(n) for n in images_C if n]
        what, of_smallest = "their mean", f", {min(sizes)} of the smallest class,"
        _, low, high = mean_of_shares([Share(TYPICAL, *wilson(TYPICAL, n)) for n in sizes])
    if high - low <= 2 * WIDE:
        return ""
    which = "each class" if metric.of_classes else "them"
    return (
        f"{images:,} validation images{of_smallest} are few: where {TYPICAL:.0%} of {which} are answered rightly, "
        f"{what} lies between {low:.1%} and {high:.1%} (95 % interval). More images, or a larger `validation`, tell "
        "networks apart that are closer"
    )


def uneven_text(data: ImageData, weights: str, metric: Metric = ACCURACY) -> str:
    """A warning with the counts of the classes where the largest is over three times the smallest; else empty."""
    ranked = sorted(zip(data.counts, data.classes, strict=True), reverse=True)
    if ranked[0][0] <= UNEVEN * ranked[-1][0]:
        return ""
    shown = ranked if len(ranked) <= SHOWN else [*ranked[: SHOWN // 2], *ranked[-SHOWN // 2 :]]
    counts = [f"{name} {count:,}" for count, name in shown]
    if len(shown) < len(ranked):
        counts.insert(SHOWN // 2, "...")
    said = f"classes of very different size: {', '.join(counts)}. Always answering {ranked[0][1]} "
    if metric is not ACCURACY:
        said += f"has {majority(data, metric):.1%} {metric.label}"
        hint = "; `class_weights: balanced` makes all classes count alike in training"
        return said if weights == "balanced" else said + hint
    said += f"is right for {majority(data, metric):.1%} of the validation images: compare accuracies with that"
    advice = "`objectives: [balanced_accuracy, macs]`"
    if weights != "balanced":
        advice = f"`class_weights: balanced` and {advice}"
    return f"{said}, or write {advice}"
