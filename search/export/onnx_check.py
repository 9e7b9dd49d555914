"""The exported model as ONNX, and how ONNX Runtime's logits and MACs compare with PyTorch's.

Shapes: B images, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from search.export.comparison import LOGIT_TOLERANCE, ParityError
from spaces.deploy.ship import DeployedNet, OnnxForms, onnx_forms
from trainers.data.splits import Split

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

IMAGES = 64  # that are compared in a batch
ALONE = 16  # of them, that are compared one by one too
MACS_TOLERANCE = 1e-5  # float32 holds no more of millions


def onnx_of(net: DeployedNet, test: Split) -> OnnxForms:
    """The network as ONNX, for images of the size of these."""
    return onnx_forms(net, _pixels(test)[:2])


def compare_onnx(compact: DeployedNet, session: InferenceSession, test: Split) -> dict[str, Any]:
    """The largest difference of logits, images one by one and in a batch, and whether MACs are the same.

    Raises ParityError.
    """
    pixels = _pixels(test)
    with torch.inference_mode():
        logits, macs = compact.run(pixels)
    whole = _answers(session, pixels)
    single = [_answers(session, one) for one in pixels[:ALONE].split(1)]
    compared = [(whole, slice(None)), *((one, slice(k, k + 1)) for k, one in enumerate(single))]
    difference = max(float(abs(one[0] - logits[at].numpy()).max()) for one, at in compared)
    if difference > LOGIT_TOLERANCE:
        raise ParityError(f"onnxruntime's logits differ by up to {difference:.2g}")
    paid_B = macs.expand(len(pixels)).numpy()
    off = max(float(abs(one[1] / paid_B[at] - 1).max()) for one, at in compared)
    if off > MACS_TOLERANCE:
        raise ParityError(f"the MACs that onnxruntime gives differ by up to {off:.2%}")
    return {"images": len(pixels), "largest_logit_difference": difference}


def _answers(session: InferenceSession, pixels: Tensor) -> list[np.ndarray]:
    """Logits (B, C) and MACs (B,)."""
    found: list[np.ndarray] = session.run(["logits", "macs"], {"pixels": pixels.numpy()})
    return found


def _pixels(test: Split) -> Tensor:
    """Images that are spread evenly: the first ones may all be of one class, and leave at one exit."""
    return next(iter(test.some(IMAGES).batches(IMAGES))).images.float() / 255
