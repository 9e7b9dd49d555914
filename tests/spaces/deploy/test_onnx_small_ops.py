"""Decisions that stay true or false, and MACs that are added up once, in ONNX."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from spaces.deploy.onnx_small_ops import shorten

COSTS = (3.0, 5.0, 7.0, 11.0)
UNITS = (1, 2, 1, 3)


class Gates(nn.Module):
    """A network's decisions and its MACs, as masked execution counts them."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, macs = x, torch.zeros(x.shape[0], dtype=torch.float64)
        for i in range(self.count):
            z = (u[:, : UNITS[i]] > 0.1 * i).float()
            macs = macs + z.double().sum(1) * COSTS[i] + 2.0
            u = torch.where((z > 0)[:, :1], u + 1, u * -0.5)
        return u, macs


def exported(net: nn.Module) -> ir.Model:
    program = torch.onnx.export(
        net.eval(),
        (torch.rand(2, 4),),
        input_names=["x"],
        output_names=["u", "macs"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model


def run(model: ir.Model, x: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return [torch.tensor(value) for value in session.run(None, {"x": x.numpy()})]


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.slow
def test_same_answers_and_macs(count: int) -> None:
    net = Gates(count)
    model = exported(net)
    shorten(model)
    x = torch.randn(7, 4)
    for found, expected in zip(run(model, x), net(x), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


@pytest.mark.slow
def test_fewer_operations() -> None:
    model = exported(Gates(4))
    before = Counter(node.op_type for node in model.graph)
    shorten(model)
    after = Counter(node.op_type for node in model.graph)
    assert before["ReduceSum"] == 4
    assert after["ReduceSum"] == 0
    assert after["MatMul"] == 1
    assert after["Greater"] == 4  # and not each of them once more
    assert after["Cast"] == 1
