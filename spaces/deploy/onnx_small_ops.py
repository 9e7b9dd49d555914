"""Fewer small operations in an exported graph: decisions stay true or false, and MACs are added up once.

ONNX Runtime takes about a microsecond for an operation, whatever its size. A gate of a small network has a dozen of
them, which is as much as its block saves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

FEWEST = 3  # decisions in a sum; fewer are left as they are


def shorten(model: ir.Model) -> None:
    """Write the same in fewer operations, in place."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    _keep_true_or_false(model.graph)
    for end in list(_ends_of_sums(model.graph)):
        _add_at_once(model.graph, end)
    RemoveUnusedNodesPass()(model)


def _keep_true_or_false(graph: ir.Graph) -> None:
    """A truth that is made a number only to be compared with 0 is used as it is."""
    for node in list(graph):
        if node.op_type != "Greater" or _number(node.inputs[1]) != 0:
            continue
        truth = _truth(node.inputs[0])
        if truth is not None:
            node.outputs[0].replace_all_uses_with(truth)
            graph.remove(node, safe=True)


def _truth(value: ir.Value | None) -> ir.Value | None:
    """The boolean that a value is made of."""
    import onnx_ir as ir

    while value is not None and value.dtype != ir.DataType.BOOL:
        made = value.producer()
        if made is None or made.op_type != "Cast":
            return None
        value = made.inputs[0]
    return value


def _number(value: ir.Value | None) -> float | None:
    """A constant of one element."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    known = value.const_value.numpy()
    return float(known.item()) if known.size == 1 else None


def _ends_of_sums(graph: ir.Graph) -> Iterator[ir.Node]:
    """The last addition of each sum of float64, which MACs are; the last one of the graph first."""
    for node in reversed(list(graph)):
        users = [user for user, _ in node.outputs[0].uses()]
        inner = _used_once(node.outputs[0]) and _is_sum(users[0])
        if _is_sum(node) and not inner:
            yield node


def _is_sum(node: ir.Node) -> bool:
    import onnx_ir as ir

    return node.op_type == "Add" and node.outputs[0].dtype == ir.DataType.DOUBLE


@dataclass
class _Sum:
    """Terms of a sum: numbers together, decisions with what one open unit adds, and the rest."""

    number: float = 0.0
    decisions: list[tuple[ir.Value, float]] = field(default_factory=list)
    others: list[ir.Value] = field(default_factory=list)

    def take(self, value: ir.Value, *, first: bool = False) -> None:
        """Add a value; one that is itself a sum, and used for nothing else, by its terms."""
        made, known = value.producer(), _number(value)
        if known is not None:
            self.number += known
        elif made is not None and _is_sum(made) and (first or _used_once(value)):
            for part in made.inputs:
                assert part is not None
                self.take(part)
        elif (weighed := _weighed(value)) is not None:
            self.decisions.append(weighed)
        else:
            self.others.append(value)


def _used_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def _weighed(value: ir.Value) -> tuple[ir.Value, float] | None:
    """Decisions (B, U) and the number that the count of the open ones is multiplied by."""
    product = value.producer()
    if product is None or product.op_type != "Mul" or not _used_once(value):
        return None
    for count, number in (product.inputs, reversed(product.inputs)):
        weight, counted = _number(number), count.producer() if count is not None else None
        if weight is None or counted is None or counted.op_type != "ReduceSum":
            continue
        truth = _truth(counted.inputs[0])
        if truth is not None and _units(truth):
            return truth, weight
    return None


def _units(truth: ir.Value) -> int:
    """U of decisions (B, U); 0 where they have another shape, or it is not known."""
    shape = truth.shape
    units = shape[1] if shape is not None and len(shape) == 2 else 0
    return units if isinstance(units, int) else 0


def _add_at_once(graph: ir.Graph, end: ir.Node) -> None:
    """A product with the vector of what each unit adds, in place of an addition for each gate."""
    import onnx_ir as ir

    terms, total = _Sum(), end.outputs[0]
    terms.take(total, first=True)
    if len(terms.decisions) < FEWEST:
        return
    weights = [weight for truth, weight in terms.decisions for _ in range(_units(truth))]
    truths = [truth for truth, _ in terms.decisions]
    name = f"{total.name}.sum"
    vector = _constant(graph, np.array(weights, np.float64), f"{name}.weights")
    number = _constant(graph, np.array(terms.number, np.float64), f"{name}.number")
    all_of_them = ir.node("Concat", truths, {"axis": 1})
    counted = ir.node("Cast", all_of_them.outputs, {"to": int(ir.DataType.DOUBLE)})
    added = ir.node("MatMul", [counted.outputs[0], vector])
    nodes = [all_of_them, counted, added]
    for other in (number, *terms.others):
        nodes.append(ir.node("Add", [nodes[-1].outputs[0], other]))
    for i, node in enumerate(nodes):
        node.outputs[0].name = f"{name}{i}"
        node.outputs[0].dtype = ir.DataType.DOUBLE if node is not all_of_them else ir.DataType.BOOL
    last = nodes[-1].outputs[0]
    last.shape, last.type = total.shape, total.type
    graph.insert_before(end, nodes)
    replaced = total.name
    total.replace_all_uses_with(last, replace_graph_outputs=True)
    last.name, total.name = replaced, f"{replaced}.before"


def _constant(graph: ir.Graph, value: np.ndarray, name: str) -> ir.Value:
    import onnx_ir as ir

    tensor = ir.tensor(value, name=name)
    made = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(value.shape), const_value=tensor
    )
    graph.register_initializer(made)
    return made
