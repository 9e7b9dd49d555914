"""What only one side of a choice needs, moved into an `If` of ONNX: a graph that computes everything learns to skip.

A network in masked execution computes both sides of every decision and chooses with `Where`. ONNX Runtime runs all of
that. Here the nodes that one side alone needs move into an `If` that runs when any image of the batch takes this side;
the `Where` stays, so that the answers are the same at any batch size. With one image, only what it needs is run.
Weights move with their nodes: ONNX Runtime cannot prepare weights that lie outside of a branch.

It knows nothing of networks: any graph with a `Where` whose side holds work is changed so, choices within choices too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

RUN, REST = (
    1,
    2,
)  # inputs of a Where: what is taken where its condition holds, and where it does not
SMALL = 65_536  # bytes of a weight that is copied into each branch that uses it
SMALLEST = 20_000  # MACs of a side; an If around less costs more than it saves
PRODUCTS = ("Conv", "MatMul", "Gemm")
SHAPING = ("Unsqueeze", "Squeeze", "Reshape", "Expand", "Identity")


def sink(model: ir.Model) -> int:
    """Move what one side of a choice alone needs into branches, in place; returns how many `If` were made."""
    made = make_branches(model)
    copy_shared_weights(model.graph)
    return made


def make_branches(model: ir.Model) -> int:
    """As `sink`, but for weights that several nodes share: they stay outside."""
    sinking = _Sinking()
    sinking.sink(model.graph)
    return sinking.made


@dataclass
class _Choice:
    """Choices by one condition, none of which needs another."""

    condition: ir.Value
    wheres: list[ir.Node]


@dataclass
class _Sinking:
    made: int = 0
    # the If that a graph is a branch of, by the graph's identity
    _holders: dict[int, ir.Node] = field(default_factory=dict)
    _enclosed: set[ir.Node] = field(default_factory=set)  # choices that are in their branch

    def sink(self, graph: ir.Graph) -> None:
        """The outermost choice first: what lies within its branch is sunk there."""
        for choice in _choices(node for node in reversed(graph) if node not in self._enclosed):
            sides = [(macs(nodes), side, nodes) for side, nodes in self._sides(graph, choice)]
            heavy = sorted(one for one in sides if one[0] >= SMALLEST)
            for _, side, nodes in heavy[:-1]:
                self._guard(graph, choice, side, nodes)
            for _, side, nodes in heavy[-1:]:
                self._enclose(graph, choice, side, nodes)

    def _sides(self, graph: ir.Graph, choice: _Choice) -> list[tuple[int, list[ir.Node]]]:
        return [(side, self._needed_by(graph, choice, side)) for side in (RUN, REST)]

    def _needed_by(self, graph: ir.Graph, choice: _Choice, side: int) -> list[ir.Node]:
        """The nodes that nothing but this side of the choice needs, in the order of the graph."""
        needed: set[ir.Node] = set()
        for node in reversed(graph):
            uses = [use for value in node.outputs for use in value.uses()]
            shown = any(value.is_graph_output() for value in node.outputs)
            if not uses or shown or node in choice.wheres:
                continue
            if all(self._within(graph, *use, needed, choice, side) for use in uses):
                needed.add(node)
        return [node for node in graph if node in needed]

    def _within(
        self,
        graph: ir.Graph,
        node: ir.Node,
        index: int,
        needed: set[ir.Node],
        choice: _Choice,
        side: int,
    ) -> bool:
        if node in choice.wheres:
            return index == side
        return self._in(graph, node) in needed

    def _in(self, graph: ir.Graph, node: ir.Node) -> ir.Node:
        """The node itself, or the one of this graph whose branch it is in."""
        while node.graph is not graph:
            node = self._holders[id(node.graph)]
        return node

    def _guard(self, graph: ir.Graph, choice: _Choice, side: int, nodes: list[ir.Node]) -> None:
        """Compute a side only where an image takes it; else a zero stands for it, which no image reads."""
        given = _made_by(nodes, (where.inputs[side] for where in choice.wheres))
        zeros = [_zero(value) for value in given]
        self._branch(graph, choice, side, (nodes, given), zeros)

    def _enclose(self, graph: ir.Graph, choice: _Choice, side: int, nodes: list[ir.Node]) -> None:
        """Compute a side, and choose, only where an image takes it; else the other side is the answer."""
        import onnx_ir as ir

        other = RUN + REST - side
        wheres = [one for one in choice.wheres if _made_by(nodes, [one.inputs[side]])]
        if not all(_same_shape(where.inputs[other], where.outputs[0]) for where in wheres):
            self._guard(graph, choice, side, nodes)
            return
        chosen = [where.outputs[0] for where in wheres]
        passed = [ir.node("Identity", [where.inputs[other]]) for where in wheres]
        branch = self._branch(graph, choice, side, ([*nodes, *wheres], chosen), passed)
        self._enclosed.update(wheres)
        self.sink(branch)

    def _branch(
        self,
        graph: ir.Graph,
        choice: _Choice,
        side: int,
        run: tuple[Sequence[ir.Node], Sequence[ir.Value]],
        rest: Sequence[ir.Node],
    ) -> ir.Graph:
        """Move nodes into an If that gives these values of theirs, or else the outputs of `rest`."""
        import onnx_ir as ir

        nodes, values = run
        inside = set(nodes)
        self.made += 1
        condition = _condition(choice.condition, side)
        # names of our own: those that graphs give are unique within one graph only
        name = f"choice{self.made}"
        for i, node in enumerate(condition):
            node.outputs[0].name = f"{name}.taken{i}"
        outputs = [ir.Value(name=f"{name}.{i}") for i in range(len(values))]
        for i, (new, old, other) in enumerate(zip(outputs, values, rest, strict=True)):
            new.shape, new.type = old.shape, old.type
            other.outputs[0].type, other.outputs[0].name = old.type, f"{name}.else{i}"
            self._hand_over(graph, old, new, inside)
        moved = self._own_weights(graph, inside)
        graph.remove(nodes)
        then = ir.Graph([], values, nodes=nodes, initializers=moved, name=f"{name}.then")
        instead = [one.outputs[0] for one in rest]
        otherwise = ir.Graph([], instead, nodes=rest, name=f"{name}.else")
        branches = {"then_branch": then, "else_branch": otherwise}
        made = ir.node("If", [condition[-1].outputs[0]], branches, outputs=outputs)
        self._holders |= {id(then): made, id(otherwise): made}
        graph.extend([*condition, made])
        graph.sort()
        return then

    def _hand_over(
        self, graph: ir.Graph, old: ir.Value, new: ir.Value, inside: Set[ir.Node]
    ) -> None:
        """Let what uses a value, but for the nodes inside, use the new one."""
        for node, index in tuple(old.uses()):
            if self._in(graph, node) not in inside:
                node.replace_input_with(index, new)
        for index, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[index] = new
                new.name, old.name = old.name, f"{old.name}.chosen"

    def _own_weights(self, graph: ir.Graph, inside: Set[ir.Node]) -> list[ir.Value]:
        """The graph's weights that nodes inside alone use; they are taken out of it."""
        own = {
            name: value
            for name, value in graph.initializers.items()
            if value.uses()
            and not value.is_graph_input()
            and all(self._in(graph, node) in inside for node, _ in value.uses())
        }
        for name in own:
            del graph.initializers[name]
        return list(own.values())


def copy_shared_weights(graph: ir.Graph) -> None:
    """Give each branch copies of its own of what several nodes share: weights of products, and what is small.

    A convolution with any of its weights outside of its branch is run by ONNX Runtime's slow kernels. So two members of
    a cascade with the same weights take the room of two.
    """
    for node in graph:
        for branch in branches(node):
            _copy_into(branch)
            copy_shared_weights(branch)


def _copy_into(branch: ir.Graph) -> None:
    import onnx_ir as ir

    copies: dict[ir.Value, ir.Value] = {}
    for node in branch:
        for index, value in enumerate(node.inputs):
            if value is None or value.const_value is None or value.graph in (None, branch):
                continue
            if not value.is_initializer() or value.is_graph_input():
                continue
            if value.const_value.nbytes > SMALL and not (node.op_type in PRODUCTS and index):
                continue
            if value not in copies:
                name = f"{value.name}.{branch.name}"
                tensor = ir.tensor(value.const_value.numpy(), name=name)
                copies[value] = ir.Value(
                    name=name, type=value.type, shape=value.shape, const_value=tensor
                )
                branch.register_initializer(copies[value])
            node.replace_input_with(index, copies[value])


def macs(nodes: Iterable[ir.Node]) -> int:
    """MACs an image of convolutions and matrix products; what is not known of a shape counts as 1."""
    total = 0
    for node in nodes:
        total += sum(macs(branch) for branch in branches(node))
        if node.op_type == "Conv":
            total += prod(_sizes(node.outputs[0])[2:]) * prod(_sizes(node.inputs[1]))
        elif node.op_type in ("MatMul", "Gemm"):
            shared = _sizes(node.inputs[0])[-1:]
            total += prod(_sizes(node.outputs[0])) * prod(shared)
    return total


def branches(node: ir.Node) -> list[ir.Graph]:
    """The graphs of an `If`; of another node none."""
    import onnx_ir as ir

    graphs = [a for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    return [attribute.as_graph() for attribute in graphs]


def _sizes(value: ir.Value | None) -> list[int]:
    shape = None if value is None else value.shape
    return [] if shape is None else [n if isinstance(n, int) else 1 for n in shape]


def _choices(nodes: Iterable[ir.Node]) -> list[_Choice]:
    """By condition, in the order of these nodes: the last of a graph first."""
    found: list[_Choice] = []
    for node in nodes:
        if node.op_type != "Where":
            continue
        condition = _root(node.inputs[0])
        if condition is None or condition.producer() is None:
            continue
        same = [one for one in found if one.condition is condition]
        if same and not _needs(same[-1].wheres, node):
            same[-1].wheres.append(node)
        else:
            found.append(_Choice(condition, [node]))
    return found


def _root(value: ir.Value | None) -> ir.Value | None:
    """The value before it was brought into another shape."""
    while value is not None and (made := value.producer()) and made.op_type in SHAPING:
        value = made.inputs[0]
    return value


def _needs(nodes: Iterable[ir.Node], one: ir.Node) -> bool:
    """Whether any of the nodes is computed from what `one` gives."""
    open_ones, seen = list(nodes), set()
    while open_ones:
        node = open_ones.pop()
        if node is one:
            return True
        if node not in seen:
            seen.add(node)
            inner = [deep for branch in branches(node) for deep in branch.all_nodes()]
            values = (value for each in (node, *inner) for value in each.inputs)
            open_ones += [made for value in values if value and (made := value.producer())]
    return False


def _made_by(nodes: Sequence[ir.Node], values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [v for v in dict.fromkeys(values) if v is not None and v.producer() in nodes]


def _condition(chosen: ir.Value, side: int) -> list[ir.Node]:
    """Nodes that say whether any image takes this side; the last one's output does."""
    import onnx_ir as ir

    number = ir.node("Cast", [chosen], {"to": int(ir.DataType.FLOAT)})
    reduce = "ReduceMax" if side == RUN else "ReduceMin"
    found = ir.node(reduce, [number.outputs[0]], {"keepdims": 0})
    known = ir.node("Cast", [found.outputs[0]], {"to": int(ir.DataType.BOOL)})
    nodes = [number, found, known]
    return nodes if side == RUN else [*nodes, ir.node("Not", [known.outputs[0]])]


def _zero(value: ir.Value) -> ir.Node:
    """A zero of the value's type that takes any shape of as many dimensions."""
    import numpy as np
    import onnx_ir as ir

    assert value.shape is not None
    assert value.dtype is not None
    zero = ir.Tensor(np.zeros((1,) * len(value.shape), value.dtype.numpy()))
    return ir.node("Constant", [], {"value": zero})


def _same_shape(value: ir.Value | None, other: ir.Value) -> bool:
    return value is not None and value.shape is not None and value.shape == other.shape
