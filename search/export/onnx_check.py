"""The exported model as ONNX, and how ONNX Runtime's logits compare with PyTorch's."""

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


def onnx_of(net: DeployedNet, test: Split) -> OnnxForms:
    """The network as ONNX, for images of the size of these."""
    return onnx_forms(net, _pixels(test)[:2])


def compare_onnx(compact: DeployedNet, session: InferenceSession, test: Split) -> dict[str, Any]:
    """The largest difference of logits, images one by one and in a batch. Raises ParityError."""
    pixels = _pixels(test)
    whole = session.run(None, {"pixels": pixels.numpy()})[0]
    single = np.concatenate(
        [session.run(None, {"pixels": one[None].numpy()})[0] for one in pixels[:ALONE]]
    )
    with torch.inference_mode():
        logits: Tensor = compact(pixels)
    difference = max(abs(whole - logits.numpy()).max(), abs(single - logits[:ALONE].numpy()).max())
    if difference > LOGIT_TOLERANCE:
        raise ParityError(f"onnxruntime's logits differ by up to {difference:.2g}")
    return {"images": len(pixels), "largest_logit_difference": float(difference)}


def _pixels(test: Split) -> Tensor:
    return next(iter(test.batches(IMAGES))).images.float() / 255
