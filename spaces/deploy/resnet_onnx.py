"""A deployed ResNet as an ONNX graph that skips for real.

Each gated block is an `If` whose weights live inside its branch, so that the runtime can pre-pack them (weights in the
outer graph cannot be, and cost more than skipping saves). A block runs when any image of the batch opens it and its
result is multiplied by the decisions: equal logits at any batch size, real skipping at batch 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from spaces.deploy.resnet import DeployedResNet
from spaces.deploy.resnet_block import DeployedBlock

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8  # what onnxruntime 1.18 reads


class _Graph:
    """Nodes and initializers of a graph under construction."""

    def __init__(self, prefix: str) -> None:
        self.prefix, self.nodes, self.initializers = prefix, [], []  # type: ignore[var-annotated]
        self._count = 0

    def constant(self, values: Any, name: str) -> str:
        from onnx import numpy_helper

        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        full = f"{self.prefix}{name}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), full))
        return full

    def add(self, op: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        self._count += 1
        output = output or f"{self.prefix}{op.lower()}{self._count}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def conv(self, x: str, conv: nn.Conv2d, name: str) -> str:
        assert conv.bias is not None
        weight, bias = (
            self.constant(conv.weight, f"{name}.weight"),
            self.constant(conv.bias, f"{name}.bias"),
        )
        pads = [conv.padding[0], conv.padding[1]] * 2
        return self.add(
            "Conv",
            [x, weight, bias],
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=pads,
        )

    def linear(self, x: str, linear: nn.Module, name: str) -> str:
        assert isinstance(linear, nn.Linear)
        weight, bias = (
            self.constant(linear.weight, f"{name}.weight"),
            self.constant(linear.bias, f"{name}.bias"),
        )
        return self.add("Gemm", [x, weight, bias], transB=1)

    def graph(self, name: str, inputs: list[Any], outputs: list[Any]) -> onnx.GraphProto:
        from onnx import helper

        return helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)


def resnet_onnx(net: DeployedResNet) -> onnx.ModelProto:
    """The network as ONNX: input `pixels` (batch, C, H, W) float32 in [0, 1], output `logits` (batch, classes)."""
    import onnx
    from onnx import TensorProto, helper

    task, g = net.task, _Graph("")
    pixels = helper.make_tensor_value_info(
        "pixels", TensorProto.FLOAT, ["batch", task.channels, task.height, task.width]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", task.classes])
    centred = g.add("Sub", ["pixels", g.constant(net.mean[None], "mean")])
    u = stem = g.add(
        "Relu",
        [g.conv(g.add("Div", [centred, g.constant(net.std[None], "std")]), net.stem, "stem")],
    )
    for index, block in enumerate(net.blocks):
        assert isinstance(block, DeployedBlock)
        u = _block(g, block, u, stem if net.gate_source == "stem" else u, f"block{index}")
    pooled = g.add("ReduceMean", [u], axes=[2, 3], keepdims=0)
    fc = g.linear(pooled, net.fc, "fc")
    g.add("Identity", [fc], "logits")
    model = helper.make_model(
        g.graph("dynafront", [pixels], [logits]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="dynafront",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _block(g: _Graph, block: DeployedBlock, u: str, source: str, name: str) -> str:
    skip = _skip(g, block, u, name)
    if block.closed:
        return u if block.identity else g.add("Relu", [skip])
    if not block.decides("layer"):
        return g.add("Relu", [g.add("Add", [skip, _residual(g, block, u, source, name)])])
    z = _decision(g, block, "layer", source, name)  # (batch, 1)
    any_open = g.add("Cast", [g.add("ReduceMax", [z], keepdims=0)], to=9)
    run, rest = _Graph(f"{name}.open."), _Graph(f"{name}.closed.")
    shaped = run.add("Reshape", [z, run.constant(np.array([-1, 1, 1, 1]), "shape")])
    residual = run.add("Mul", [_residual(run, block, u, source, name), shaped])
    opened = run.add("Relu", [run.add("Add", [skip, residual])])
    closed = rest.add("Identity", [u]) if block.identity else rest.add("Relu", [skip])
    return g.add(
        "If",
        [any_open],
        then_branch=run.graph(f"{name}_open", [], [_value(opened)]),
        else_branch=rest.graph(f"{name}_closed", [], [_value(closed)]),
    )


def _residual(g: _Graph, block: DeployedBlock, u: str, source: str, name: str) -> str:
    h = g.add("Relu", [g.conv(u, block.conv1, f"{name}.conv1")]) if block.kept_inner else ""
    if block.decides("inner"):
        h = g.add("Mul", [h, _filter_mask(g, block, "inner", block.inner_unit, source, name)])
    if block.kept_inner:
        r = g.conv(h, block.conv2, f"{name}.conv2")
    else:  # nothing but the second batch norm's shift is left of the residual
        assert block.conv2.bias is not None
        r = g.constant(
            block.conv2.bias[None, :, None, None].expand(1, -1, *block.size), f"{name}.shift"
        )
    if block.decides("outer"):
        r = g.add("Mul", [r, _filter_mask(g, block, "outer", block.outer_unit, source, name)])
    if len(block.kept_outer) == block.filters:
        return r
    place = np.zeros((block.filters, len(block.kept_outer), 1, 1), np.float32)
    # a 1x1 convolution that puts filters in their places
    place[block.kept_outer, range(len(block.kept_outer))] = 1
    return g.add("Conv", [r, g.constant(place, f"{name}.place")], kernel_shape=[1, 1])


def _filter_mask(
    g: _Graph, block: DeployedBlock, kind: str, unit_of: list[int], source: str, name: str
) -> str:
    """(batch, filters, 1, 1) of 0 and 1 from one decision a unit."""
    decided = _decision(g, block, kind, source, name)
    units = max(unit_of) + 1
    spread = np.zeros((units, len(unit_of)), np.float32)
    always = np.zeros(len(unit_of), np.float32)
    for position, unit in enumerate(unit_of):
        if unit < 0:
            always[position] = 1
        else:
            spread[unit, position] = 1
    mask = g.add(
        "Gemm",
        [
            decided,
            g.constant(spread, f"{name}.{kind}.spread"),
            g.constant(always, f"{name}.{kind}.always"),
        ],
    )
    return g.add("Reshape", [mask, g.constant(np.array([0, 0, 1, 1]), f"{name}.{kind}.shape")])


def _decision(g: _Graph, block: DeployedBlock, kind: str, source: str, name: str) -> str:
    """(batch, units) of 0.0 and 1.0."""
    gates = block.gates
    assert gates is not None
    pooled = g.add("ReduceMean", [source], axes=[2, 3], keepdims=0)
    features = g.add(
        "Relu", [g.linear(pooled, gates.trunks[gates.trunk_of[kind]], f"{name}.{kind}.trunk")]
    )
    probability = g.add("Sigmoid", [g.linear(features, gates.heads[kind], f"{name}.{kind}.head")])
    above = g.add(
        "Greater", [probability, g.constant(np.float32(block.taus[kind]), f"{name}.{kind}.tau")]
    )
    return g.add("Cast", [above], to=1)


def _skip(g: _Graph, block: DeployedBlock, u: str, name: str) -> str:
    if block.shortcut is not None:
        return g.conv(u, block.shortcut, f"{name}.shortcut")
    if block.identity:
        return u
    starts, ends = (
        g.constant(np.array([0, 0]), f"{name}.starts"),
        g.constant(np.array([2**31, 2**31]), f"{name}.ends"),
    )
    axes, steps = (
        g.constant(np.array([2, 3]), f"{name}.axes"),
        g.constant(np.array([block.stride] * 2), f"{name}.steps"),
    )
    thinned = g.add("Slice", [u, starts, ends, axes, steps])
    pads = g.constant(np.array([0, 0, 0, 0, 0, block.extra, 0, 0]), f"{name}.pads")
    return g.add("Pad", [thinned, pads])


def _value(name: str) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, 1, None)
