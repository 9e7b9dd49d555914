"""Other number formats of an exported model, each a file of its own: what it answers beside the float32 one, how fast.

Shapes: B images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from search.export.extras import variant_file
from search.export.latency import beside_in_onnxruntime, session_of
from search.export.measures import Counts
from spaces.deploy.onnx_half import half_model
from spaces.deploy.onnx_int8 import int8_model
from spaces.deploy.ship import OnnxForms
from trainers.data.splits import Split
from trainers.metrics import ACCURACY, Metric
from trainers.significance import Share, difference_of, paired_difference, wilson

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

BATCH = 64
CALIBRATED_ON = 256  # images
# times as many images may get another class as accuracy may be lost: those are the unsure ones, often wrong in any case
CHANGED = 3


@dataclass(frozen=True)
class Limits:
    """What a file must keep of the float32 one on the test images; where it does not with 95 % confidence, it is not
    written: `lost` is accuracy, `same` the share of images that get the same class.
    """

    lost: float
    same: float


LIMITS: dict[str, Limits] = {
    name: Limits(lost=lost, same=round(1 - CHANGED * lost, 4))
    for name, lost in {"int8": 0.05, "float16": 0.01, "bfloat16": 0.02}.items()
}


@dataclass(frozen=True)
class Variant:
    """The model in another number format, and what model.json says of it. A file that is not good enough is None."""

    model: ModelProto | None
    report: dict[str, Any]


@dataclass(frozen=True)
class Float32:
    """The model in float32 as ONNX, open in ONNX Runtime, and what the exported network answered to the test images."""

    forms: OnnxForms
    session: InferenceSession
    counts: Counts


def variant(name: str, float32: Float32, test: Split, validation: Split, metric: Metric) -> Variant:
    """The model in the number format of this name, beside the float32 one; int8 is calibrated on validation images."""
    model, report = _made(name, float32, validation)
    found = _answered(session_of(model, torch.get_num_threads()), test, float32.counts)
    difference = _difference(found.counts, float32.counts, metric)
    report |= {
        "file": variant_file(name),
        "bytes": model.ByteSize(),
        "test": found.counts.accuracy_and_cost(metric),
        "same_answers": found.counts.same_answers(float32.counts),
        "largest_probability_difference": found.probability_difference,
        "difference": difference._asdict(),
        "limits": asdict(LIMITS[name]),
    }
    if not within(LIMITS[name], difference, report["same_answers"], len(test)):
        return Variant(None, report | {"file": None})
    latency = beside_in_onnxruntime(session_of(model), float32.session, test)
    return Variant(model, report | {"latency_ms": latency})


def _made(name: str, float32: Float32, validation: Split) -> tuple[ModelProto, dict[str, Any]]:
    """The model in this number format, and what was needed to make it."""
    if name == "int8":
        model = int8_model(float32.forms.flat(), _pixels(validation, CALIBRATED_ON))
        return model, {"calibrated_on": min(CALIBRATED_ON, len(validation))}
    return half_model(float32.forms.model, name), {}


def within(limits: Limits, difference: Share, same: int, images: int) -> bool:
    """Whether the file may keep what the limits ask for, by the upper ends of 95 % intervals."""
    return difference.high >= -limits.lost and wilson(same / images, images)[1] >= limits.same


def _pixels(split: Split, most: int) -> Iterator[np.ndarray]:
    """At most so many images, spread evenly, as batches in [0, 1]: the first ones may all be of one class."""
    for batch in split.some(most).batches(BATCH):
        yield (batch.images.float() / 255).numpy()


@dataclass(frozen=True)
class _Answered:
    """What a file answered to the test images; the difference is that of the probability of float32's answer, the
    largest among images that took as many MACs: another exit may well be surer.
    """

    counts: Counts
    probability_difference: float


def _answered(session: InferenceSession, test: Split, float32: Counts) -> _Answered:
    counts, probabilities = Counts(), []
    answers_N, sure_N, paid_N = (
        torch.cat(one) for one in (float32.answers, float32.sure, float32.macs)
    )
    for batch in test.batches(BATCH):
        pixels = (batch.images.float() / 255).numpy()
        logits_BC, macs_B = map(
            torch.from_numpy, session.run(["logits", "macs"], {"pixels": pixels})
        )
        counts.add(logits_BC, batch.labels, macs_B)
        probabilities.append(logits_BC.softmax(1))
    now_N = torch.cat(probabilities).gather(1, answers_N[:, None])[:, 0]
    alike_N = torch.cat(counts.macs) == paid_N
    off_N = (now_N - sure_N).abs().where(alike_N, torch.zeros(()))
    return _Answered(counts, float(off_N.max()))


def _difference(ours: Counts, theirs: Counts, metric: Metric) -> Share:
    """Of the metric, ours minus theirs, with its 95 % interval."""
    if metric is ACCURACY:
        return paired_difference(ours.right(), theirs.right())
    measured = [one.accuracy_and_cost(metric) for one in (ours, theirs)]
    return difference_of(*(_share(one) for one in measured))


def _share(measured: Mapping[str, Any]) -> Share:
    return Share(measured["accuracy"], measured["accuracy_low"], measured["accuracy_high"])
