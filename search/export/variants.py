"""Other number formats of an exported model, each a file of its own: what it answers beside the float32 one, how fast.

Shapes: B images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from search.export.extras import variant_file
from search.export.latency import beside_in_onnxruntime, session_of
from search.export.measures import Counts
from spaces.deploy.onnx_int8 import int8_model
from trainers.data.splits import Split
from trainers.metrics import ACCURACY, Metric
from trainers.significance import Share, difference_of, paired_difference

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

BATCH = 64
CALIBRATED_ON = 256  # images
MOST_LOST = 0.05  # accuracy; with more than chance below, a file is not written


@dataclass(frozen=True)
class Variant:
    """The model in another number format, and what model.json says of it. A file that is not good enough is None."""

    model: ModelProto | None
    report: dict[str, Any]


def int8_variant(
    flat: ModelProto,
    session: InferenceSession,
    counts: Counts,
    test: Split,
    validation: Split,
    metric: Metric,
) -> Variant:
    """The model in 8-bit integers, calibrated on validation images, beside the float32 one in `session`.

    `flat` is the float32 model without branches, `counts` what the exported network answered to the test images.
    """
    model = int8_model(flat, _pixels(validation, CALIBRATED_ON))
    ours = session_of(model)
    found = _answered(ours, test)
    report = {
        "file": variant_file("int8"),
        "bytes": model.ByteSize(),
        "calibrated_on": min(CALIBRATED_ON, len(validation)),
        "test": found.accuracy_and_cost(metric),
        "same_answers": found.same_answers(counts),
        "difference": _difference(found, counts, metric)._asdict(),
    }
    if report["difference"]["high"] < -MOST_LOST:
        return Variant(None, report | {"file": None})
    latency = beside_in_onnxruntime(ours, session, test)
    return Variant(model, report | {"latency_ms": latency})


def _pixels(split: Split, most: int) -> Iterator[np.ndarray]:
    """The first images as batches in [0, 1]."""
    left = most
    for batch in split.batches(BATCH):
        if left <= 0:
            return
        yield (batch.images[:left].float() / 255).numpy()
        left -= len(batch.images)


def _answered(session: InferenceSession, test: Split) -> Counts:
    counts = Counts()
    for batch in test.batches(BATCH):
        pixels = (batch.images.float() / 255).numpy()
        logits_BC, macs_B = session.run(["logits", "macs"], {"pixels": pixels})
        counts.add(_tensor(logits_BC), batch.labels, _tensor(macs_B))
    return counts


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)


def _difference(ours: Counts, theirs: Counts, metric: Metric) -> Share:
    """Of the metric, ours minus theirs, with its 95 % interval."""
    if metric is ACCURACY:
        return paired_difference(ours.right(), theirs.right())
    measured = [one.accuracy_and_cost(metric) for one in (ours, theirs)]
    return difference_of(*(_share(one) for one in measured))


def _share(measured: Mapping[str, Any]) -> Share:
    return Share(measured["accuracy"], measured["accuracy_low"], measured["accuracy_high"])
