"""An ONNX graph in 8-bit integers but for its decisions: ONNX Runtime's static quantization, with skipping kept.

ONNX Runtime's static quantizer leaves the branches of an `If` as they are. So it is given the graph that computes
everything and chooses with `Where`, all of whose values it can see, and the branches are made of its result.

Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam and Kalenichenko, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", CVPR, 2018; here after the training, with a scale for each output channel
of a weight. Gates keep float32, and so does the last product of each exit and of the network: thresholds sit there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from spaces.deploy.onnx_branches import (
    PRODUCTS,
    branches,
    copy_shared_weights,
    make_branches,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from onnx import ModelProto

QUANTIZED = (*PRODUCTS, "Add", "Relu", "Clip", "MaxPool", "Concat")
COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
DEQUANTIZE = "DequantizeLinear"


def int8_model(flat: ModelProto, calibration: Iterable[np.ndarray]) -> ModelProto:
    """The graph with 8-bit products, and branches around what is skipped.

    `flat` computes everything and chooses afterwards. `calibration` are batches of pixels (B, C, H, W), float32 in
    [0, 1], from which the range of each value is found.
    """
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = ir.from_proto(flat)
    for number, node in enumerate(model.graph):
        node.name = f"n{number}"
    kept = sorted(str(node.name) for node in decisions(model.graph))
    proto = ir.to_proto(model)
    given = list(proto.graph.input)
    # values that may be left out are constant meanwhile: ONNX Runtime warns of others
    del proto.graph.input[1:]
    quantized = _quantized(proto, calibration, kept)
    quantized.graph.input.extend(given[1:])
    del quantized.metadata_props[:]
    model = ir.from_proto(onnx.shape_inference.infer_shapes(quantized))
    make_branches(model)
    _dequantize_inside(model.graph)
    RemoveUnusedNodesPass()(model)
    copy_shared_weights(model.graph)
    found = ir.to_proto(model)
    onnx.checker.check_model(found)
    return found


def decisions(graph: ir.Graph) -> set[ir.Node]:
    """What keeps float32: all that only a comparison needs, and products behind which there is no other product.

    What is behind a comparison does not count: a gate decides by its probability alone, whatever it opens.
    """
    deciding: set[ir.Node] = set()
    leading: set[ir.Node] = set()  # to a product
    for node in reversed(graph):
        users = {use.node for value in node.outputs for use in value.uses()}
        shown = any(value.is_graph_output() for value in node.outputs)
        if node.op_type in COMPARISONS or (users and not shown and users <= deciding):
            deciding.add(node)
        if any(
            user in leading or user.op_type in PRODUCTS
            for user in users
            if user.op_type not in COMPARISONS
        ):
            leading.add(node)
    return deciding | {n for n in graph if n.op_type in PRODUCTS and n not in leading}


def _quantized(model: ModelProto, calibration: Iterable[np.ndarray], kept: list[str]) -> ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            pixels = next(self.batches, None)
            return None if pixels is None else {"pixels": pixels}

    add_pre_process_metadata(model)  # shapes are known, batch norm is folded in
    with TemporaryDirectory() as folder:
        made = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            made,
            Reader(),
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(made)


def _dequantize_inside(graph: ir.Graph) -> None:
    """Give each branch its own nodes that turn integers of outside into floats.

    ONNX Runtime runs a product in integers only where these nodes stand right before it, in the same graph.
    """
    import onnx_ir as ir

    for node in tuple(graph):
        for branch in branches(node):
            copies: dict[ir.Value, ir.Value] = {}
            for inner in tuple(branch):
                for index, value in enumerate(inner.inputs):
                    made = None if value is None else value.producer()
                    if made is None or made.op_type != DEQUANTIZE or made.graph is branch:
                        continue
                    assert value is not None
                    if value not in copies:
                        copy = ir.node(DEQUANTIZE, list(made.inputs), dict(made.attributes))
                        copies[value] = copy.outputs[0]
                        copies[value].name = f"{value.name}.{branch.name}"
                        copies[value].shape, copies[value].type = value.shape, value.type
                        branch.insert_before(inner, copy)
                    inner.replace_input_with(index, copies[value])
            _dequantize_inside(branch)
