"""A unit of a network as an ONNX program of its own, to be timed alone."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spaces.contract.units import Unit

if TYPE_CHECKING:
    import onnx

OPSET = 17
NEWER = (
    "resize",
)  # kinds of units that the older exporter does not know: it prints a graph before it fails
IR_VERSION = 8  # what onnxruntime 1.18 reads


def unit_program(unit: Unit) -> onnx.ModelProto:
    """The unit as ONNX, for inputs of its shapes: `input0`, `input1` and so on, float32.

    The older exporter of PyTorch takes a hundredth of the newer one's time; where it does not know an operation, or is
    gone, the newer one is used.
    """
    program, names = _Program(unit).eval(), [f"input{i}" for i in range(len(unit.inputs))]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations, and what a trace takes for constant
        if unit.kind not in NEWER:
            with suppress(Exception):
                return _by_older(program, unit.inputs, names)
        newer = torch.onnx.export(
            program, unit.inputs, input_names=names, dynamo=True, verbose=False
        )
    assert newer is not None
    return newer.model_proto


def _by_older(program: nn.Module, inputs: tuple[Tensor, ...], names: list[str]) -> onnx.ModelProto:
    import onnx

    file = io.BytesIO()
    torch.onnx.export(
        program,
        inputs,
        file,  # type: ignore[arg-type]
        input_names=names,
        dynamo=False,
        opset_version=OPSET,
    )
    return onnx.load_from_string(file.getvalue())


def empty_program() -> onnx.ModelProto:
    """A program that does nothing: what calling one takes."""
    from onnx import TensorProto, helper

    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("input0", "made")
    )
    return _model([helper.make_node("Identity", ["input0"], ["made"])], given, made)


def branch_program() -> onnx.ModelProto:
    """A program that does nothing but take a branch, on what is decided in it."""
    from onnx import TensorProto, helper

    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("input0", "made")
    )
    sides = [
        helper.make_graph(
            [helper.make_node("Identity", ["input0"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])],
        )
        for name in ("one", "other")
    ]
    nodes = [
        helper.make_node("ReduceMax", ["input0"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["taken"], to=TensorProto.BOOL),
        helper.make_node("If", ["taken"], ["made"], then_branch=sides[0], else_branch=sides[1]),
    ]
    return _model(nodes, given, made)


def _model(nodes: list[Any], given: Any, made: Any) -> onnx.ModelProto:
    from onnx import helper

    graph = helper.make_graph(nodes, "dynafront", [given], [made])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


class _Program(nn.Module):
    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.run = unit.run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(*inputs)
