"""An ONNX graph under construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx


class Graph:
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

    def product(self, a: str | float, b: str | float) -> str | float:
        """Of numbers that are known now, or float64 tensors that depend on the image."""
        if not isinstance(a, str) and not isinstance(b, str):
            return a * b
        return self.add("Mul", [self.tensor(a), self.tensor(b)])

    def total(self, a: str | float, b: str | float) -> str | float:
        """The sum, as `product`."""
        if not isinstance(a, str) and not isinstance(b, str):
            return a + b
        return self.add("Add", [self.tensor(a), self.tensor(b)])

    def tensor(self, value: str | float) -> str:
        """A number as a tensor; a tensor as it is."""
        if isinstance(value, str):
            return value
        self._count += 1
        return self.constant(np.array([value], np.float64), f"number{self._count}")

    def axes(self, *axes: int) -> str:
        self._count += 1
        return self.constant(np.array(axes), f"axes{self._count}")

    def branch(
        self, condition: str, then: onnx.GraphProto, otherwise: onnx.GraphProto
    ) -> list[str]:
        """The outputs of one of two graphs, which have as many."""
        from onnx import helper

        self._count += 1
        outputs = [f"{self.prefix}if{self._count}.{i}" for i in range(len(then.output))]
        node = helper.make_node("If", [condition], outputs, then_branch=then, else_branch=otherwise)
        self.nodes.append(node)
        return outputs

    def graph(self, name: str, inputs: list[Any], outputs: list[Any]) -> onnx.GraphProto:
        from onnx import helper

        return helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
