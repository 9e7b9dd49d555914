"""Weights in 16 bits: half the size, answers that hardly move, branches that still skip."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.onnx_branches import branches
from spaces.deploy.onnx_half import half_model
from spaces.deploy.ship import onnx_model, ship
from tests.spaces.conftest import scrambled

TASK = Task(channels=3, height=16, width=16, classes=5, mean=(0.5,) * 3, std=(0.25,) * 3)
PIXELS = np.random.default_rng(0).random((16, 3, 16, 16), dtype=np.float32)
KINDS = {"float16": (onnx.TensorProto.FLOAT16, 1e-2), "bfloat16": (onnx.TensorProto.BFLOAT16, 8e-2)}


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    values = {"backbone": "resnet14", "forced_open": "none"}
    net = scrambled(Candidate.of(family("gated_resnet"), values, 2).build(TASK, 0)).float().eval()
    rates = {gate.name: (0.5,) * gate.units for gate in net.gates}
    return onnx_model(ship(net, Knobs(), rates), torch.from_numpy(PIXELS[:2]))


def outputs(model: onnx.ModelProto, thresholds: float) -> list[Any]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (count,) = next(w for w in model.graph.initializer if w.name == "thresholds").dims
    given = {"pixels": PIXELS, "thresholds": np.full(count, thresholds)}
    return list(session.run(["logits", "macs"], given))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_take_half_the_room_in_branches_too(model: onnx.ModelProto, kind: str) -> None:
    small = half_model(model, kind)
    assert small.ByteSize() < 0.56 * model.ByteSize()
    open_graphs, found = [ir.from_proto(small).graph], 0
    while open_graphs:
        graph = open_graphs.pop()
        open_graphs += [branch for node in graph for branch in branches(node)]
        weights = [v for v in graph.initializers.values() if len(v.shape or ()) == 4]
        assert all(v.dtype == KINDS[kind][0] for v in weights if "conv" in str(v.name))
        found += len(weights)
    assert found >= 13


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thresholds", [-1.0, 2.0])
def test_answers_hardly_move_and_the_same_is_skipped(
    model: onnx.ModelProto, kind: str, thresholds: float
) -> None:
    theirs, wanted = outputs(model, thresholds)
    ours, macs = outputs(half_model(model, kind), thresholds)
    assert macs.tolist() == wanted.tolist()
    assert 0 < np.abs(ours - theirs).max() < KINDS[kind][1] * np.ptp(theirs)


def test_a_weight_that_is_too_large_for_float16_stays(model: onnx.ModelProto) -> None:
    large = onnx.ModelProto()
    large.CopyFrom(model)
    weight = next(w for w in large.graph.initializer if w.name == "fc.weight")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0, 0] = 1e5
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "fc.weight"))
    names = {kind: {w.name for w in half_model(large, kind).graph.initializer} for kind in KINDS}
    assert "fc.weight" in names["float16"]
    assert "fc.weight.bfloat16" in names["bfloat16"]
