"""Gated ResNets in ONNX Runtime: the graph that is written for them beside what the export of any family makes.

CPU time of one thread, both forms in turn, medians of nine rounds of their ratio. Answers and MACs of both are equal,
or the command ends with an error.

    python benchmarks/onnx_forms.py
    python benchmarks/onnx_forms.py --sides 32 --granularities layer
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.pretrained import versions
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.resnet import DeployedResNet
from spaces.deploy.resnet_onnx import resnet_onnx
from spaces.deploy.ship import general_onnx, ship

ROUNDS = 9
IMAGES = 64
SIZES = {8: ("resnet14", 0.5), 32: ("resnet20", 1.0), 96: ("resnet20", 1.0)}  # by side of images


def network(granularity: str, side: int) -> DeployedResNet:
    """An untrained ResNet whose gates decide this way and that."""
    torch.manual_seed(0)
    backbone, width = SIZES[side]
    params = {"backbone": backbone, "width": width, "granularity": granularity}
    task = Task(channels=3, height=side, width=side, classes=10)
    net = Candidate.of(family("gated_resnet"), params, 1).build(task, 0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() > 1 and "gate" in name:
                parameter.mul_(8)
    shipped = ship(net.eval(), Knobs(), {gate.name: (0.5,) * gate.units for gate in net.gates})
    assert isinstance(shipped, DeployedResNet)
    return shipped


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def seconds(
    one: onnxruntime.InferenceSession, batches: Sequence[NDArray[np.float32]], repeats: int
) -> float:
    started = time.thread_time()
    for _ in range(repeats):
        for batch in batches:
            one.run(None, {"pixels": batch})
    return time.thread_time() - started


def compared(granularity: str, side: int) -> None:
    net, pixels = network(granularity, side), torch.rand(IMAGES, 3, side, side)
    own = session(resnet_onnx(net).SerializeToString())
    general = session(general_onnx(net, pixels[:2]).model.SerializeToString())
    for size in (1, IMAGES):
        batches = [batch.numpy() for batch in pixels.split(size)]
        for batch in batches:
            (logits, macs), (other, other_macs) = (
                one.run(None, {"pixels": batch}) for one in (own, general)
            )
            np.testing.assert_allclose(logits, other, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(macs, other_macs)
        repeats = max(1, 8000 // side**2)
        rounds = [
            seconds(general, batches, repeats) / seconds(own, batches, repeats)
            for _ in range(ROUNDS)
        ]
        print(
            f"{granularity} gates, {side} px, batch {size}: {statistics.median(rounds):.2f} times as long "
            f"({min(rounds):.2f} to {max(rounds):.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--granularities", nargs="+", default=["layer", "channel", "joint"])
    args = parser.parse_args()
    for granularity in args.granularities:
        for side in args.sides:
            compared(granularity, side)
    print(versions())


if __name__ == "__main__":
    main()
