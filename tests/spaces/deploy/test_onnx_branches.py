"""Choices of a graph that become branches, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.deploy.onnx_branches import macs, sink

DIM = 256  # a product of so many rows and columns is more than an If costs


class Net(nn.Module):
    """Two layers and `of`, which says what is made of them."""

    def __init__(self, of: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.of, self.one, self.two = of, nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Any:
        return self.of(self, x)


def one_side(net: Net, x: Tensor) -> Tensor:
    return torch.where(x[:, :1] > 0, net.one(x), x)


def either_side(net: Net, x: Tensor) -> Tensor:
    return torch.where(x[:, :1] > 0, net.one(x), net.two(x))


def one_in_the_other(net: Net, x: Tensor) -> Tensor:
    u = net.one(x)
    return torch.where(x[:, :1] > 0, torch.where(u[:, :1] > 0, net.two(u), u), x)


def two_by_one_condition(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    asked, u = x[:, 0] > 0, net.one(x)
    return torch.where(asked[:, None], u, x), torch.where(asked, u.sum(1), x[:, 1])


def one_after_the_other(net: Net, x: Tensor) -> Tensor:
    asked = x[:, :1] > 0
    u = torch.where(asked, net.one(x), x)
    return torch.where(asked, net.two(u), u)


def shared_by_both_sides(net: Net, x: Tensor) -> Tensor:
    u = net.one(x)
    return torch.where(x[:, :1] > 0, net.two(u), u)


CASES = {
    one_side: 1,
    either_side: 2,
    one_in_the_other: 2,
    two_by_one_condition: 1,
    one_after_the_other: 2,
    shared_by_both_sides: 1,
}


def exported(of: Callable[[Any, Tensor], Any]) -> tuple[Net, ir.Model]:
    torch.manual_seed(0)
    net = Net(of).eval()
    program = torch.onnx.export(
        net, (torch.randn(2, DIM),), input_names=["x"], dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
    )  # fmt: skip
    assert program is not None
    return net, program.model


def outputs(model: ir.Model, x: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {session.get_inputs()[0].name: x.numpy()}))


@pytest.mark.parametrize("of", CASES, ids=lambda of: of.__name__)
def test_answers_stay_and_products_that_one_side_needs_move_into_its_branch(
    of: Callable[[Any, Tensor], Any],
) -> None:
    net, model = exported(of)
    assert sink(model) == CASES[of]
    x = torch.randn(5, DIM)
    for batch in (x, x.abs(), -x.abs(), x[:1], x[1:2]):
        want = net(batch)
        want = want if isinstance(want, tuple) else (want,)
        for ours, theirs in zip(outputs(model, batch), want, strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-5)
    outside = [node for node in model.graph if node.op_type in ("Gemm", "MatMul")]
    assert len(outside) == (of is shared_by_both_sides), "only what both sides need is always run"


def test_weights_lie_in_the_branch_that_uses_them() -> None:
    _, model = exported(one_side)
    sink(model)
    assert not [v for v in model.graph.initializers.values() if len(v.shape or ()) == 2]
    branch = next(node for node in model.graph if node.op_type == "If")
    inside = branch.attributes["then_branch"].as_graph().initializers.values()
    assert (DIM, DIM) in [tuple(value.shape or ()) for value in inside]


def shared_bias(net: Net, x: Tensor) -> Tensor:
    u = F.linear(x, net.two.weight, net.one.bias)
    return torch.where(x[:, :1] > 0, net.one(u), u)


def shared_weight(net: Net, x: Tensor) -> Tensor:
    u = F.linear(x, net.one.weight, net.two.bias)
    return torch.where(x[:, :1] > 0, net.one(u), u)


@pytest.mark.parametrize("of", [shared_bias, shared_weight])
def test_weights_that_others_use_too_are_copied_into_the_branch(
    of: Callable[[Any, Tensor], Any],
) -> None:
    net, model = exported(of)
    assert sink(model) == 1
    branch = next(node for node in model.graph if node.op_type == "If")
    then = branch.attributes["then_branch"].as_graph()
    used = [value for node in then for value in node.inputs if value is not None]
    assert not [value.name for value in used if value.name in model.graph.initializers]
    assert (DIM,) in [tuple(value.shape or ()) for value in then.initializers.values()]
    x = torch.randn(3, DIM)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (found,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, net(x).detach().numpy(), atol=1e-5)


def test_a_side_with_little_to_do_stays_where_it_is() -> None:
    _, model = exported(lambda net, x: torch.where(x[:, :1] > 0, x * 2 + 1, x))
    assert sink(model) == 0


def test_work_is_counted_in_macs_of_an_image() -> None:
    _, model = exported(one_side)
    assert macs(model.graph) == DIM * DIM
    sink(model)
    assert macs(model.graph) == DIM * DIM, "branches count"
