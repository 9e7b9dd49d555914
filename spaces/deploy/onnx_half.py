"""An ONNX graph whose weights take 16 bits: half the size, computed in float32.

ONNX Runtime (1.32) has no kernels for convolutions and products in bfloat16 on a CPU, and none in float16 on x86. There
it computes float16 in float32, with conversions around each node, and within a branch it converts the weights anew for
each image: a whole network in float16 took up to six times as long. So weights alone are kept in 16 bits. They are made
float32 once, when the file is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spaces.deploy.onnx_branches import PRODUCTS, branches

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto


def half_model(model: ModelProto, kind: str) -> ModelProto:
    """The same graph with the weights of its products in "float16" or "bfloat16"; what is too large for that stays."""
    import onnx
    import onnx_ir as ir

    found = ir.from_proto(model)
    _store(found.graph, kind)
    made = ir.to_proto(found)
    onnx.checker.check_model(made)
    return made


def _store(graph: ir.Graph, kind: str) -> None:
    """Weights of products become constants of this kind, in branches too."""
    stored: dict[ir.Value, ir.Value] = {}
    for node in tuple(graph):
        for branch in branches(node):
            _store(branch, kind)
        if node.op_type not in PRODUCTS:
            continue
        for index, value in enumerate(node.inputs):
            if value is None or not _is_weight(value, graph):
                continue
            if value not in stored:
                stored[value] = _in_16_bits(graph, node, value, kind)
            node.replace_input_with(index, stored[value])
            if not value.uses():
                del graph.initializers[str(value.name)]


def _is_weight(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether it is a constant of this graph in float32 with two dimensions or more."""
    import onnx_ir as ir

    known = value.const_value
    if known is None or not value.is_initializer() or value.graph is not graph:
        return False
    return known.dtype == ir.DataType.FLOAT and len(known.shape) > 1


def _in_16_bits(graph: ir.Graph, product: ir.Node, weight: ir.Value, kind: str) -> ir.Value:
    """The value that a node before the product makes of the weight in 16 bits; the weight where it does not fit."""
    import onnx_ir as ir

    assert weight.const_value is not None
    small_type = ir.DataType[kind.upper()]
    with np.errstate(over="ignore"):
        array = weight.const_value.numpy().astype(small_type.numpy())
    if not np.isfinite(array.astype(np.float32)).all():
        return weight
    name = f"{weight.name}.{kind}"
    small = ir.tensor(array, name=name)
    kept = ir.Value(
        name=name, type=ir.TensorType(small_type), shape=weight.shape, const_value=small
    )
    graph.register_initializer(kept)
    cast = ir.node("Cast", [kept], {"to": int(ir.DataType.FLOAT)})
    whole = cast.outputs[0]
    whole.name, whole.shape, whole.type = f"{weight.name}.float32", weight.shape, weight.type
    graph.insert_before(product, cast)
    return whole
