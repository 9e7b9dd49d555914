"""The exported model as a program of torch.export: that it answers as the model does, and how long it takes.

Shapes: B images.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from search.export.comparison import LOGIT_TOLERANCE, ParityError
from search.export.latency import beside_onnxruntime
from spaces.deploy.ship import DeployedNet
from spaces.deploy.torch_program import torch_program
from trainers.data.splits import Split

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch.export import ExportedProgram

BATCH = 64
ALONE = 16  # images that are compared one by one too
SHARE_BY_ROUNDING = 0.001  # of the images, and one: they lie within a rounding error of a threshold


def program_of(net: DeployedNet, test: Split) -> ExportedProgram:
    """The network as a program, for images of the size of these."""
    return torch_program(net, next(iter(test.batches(2))).images.float() / 255)


def compare_program(
    net: DeployedNet, program: ExportedProgram, session: InferenceSession, test: Split
) -> dict[str, Any]:
    """How its answers to all test images compare with the network's, its size, and milliseconds beside ONNX Runtime's.

    Raises ParityError where logits differ by more than rounding.
    """
    run, given = program.module(), thresholds_given(net)
    batches = [batch.images.float() / 255 for batch in test.batches(BATCH)]
    largest, other = 0.0, 0
    with torch.inference_mode():
        for pixels in (*batches, *batches[0][:ALONE].split(1)):
            off_B, same_B = _difference(net.run(pixels), run(pixels, *given))
            largest = max(largest, float(off_B.where(same_B, torch.zeros(())).max()))
            other += int((~same_B).sum())
    if largest > LOGIT_TOLERANCE or other > 1 + SHARE_BY_ROUNDING * len(test):
        raise ParityError(
            f"the program of torch.export takes another way for {other} of {len(test)} images, and its logits differ "
            f"by up to {largest:.2g}; leave out --format pt2"
        )
    file = BytesIO()
    torch.export.save(program, file)
    return {
        "torch": ".".join(torch.__version__.split(".")[:2]),
        "images": len(test),
        "decided_by_rounding": other,
        "largest_logit_difference": largest,
        "bytes": file.tell(),
        "latency_ms": beside_onnxruntime(lambda batch: run(batch, *given), session, test),
    }


def thresholds_given(net: DeployedNet) -> tuple[Tensor, ...]:
    """What the program is given beside pixels, for the exported point."""
    values = list(net.thresholds.values())
    return (torch.tensor(values, dtype=torch.float64),) if values else ()


def _difference(
    theirs: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The largest difference of each image's logits (B,), and whether it took the same MACs (B,)."""
    return (ours[0] - theirs[0]).abs().amax(1), ours[1] == theirs[1]
