"""What only one side of a choice needs, moved into `torch.cond`: a graph that computes everything learns to skip.

The same as `spaces.deploy.onnx_branches` does with ONNX, for a graph of torch.fx. Nodes that only one side of a `where`
needs move into a branch that runs when any image of the batch takes this side, with the `where` itself, so that answers
are the same at any batch size. Weights are operands of a branch, as torch.export asks for.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.fx import GraphModule, Node

from spaces.deploy.onnx_branches import REST, RUN, SMALLEST

ATEN = torch.ops.aten
WHERE = ATEN.where.self
SIZE = ATEN.sym_size.int
PRODUCTS = (ATEN.conv2d.default, ATEN.linear.default, ATEN.matmul.default, ATEN.addmm.default)
SHAPING = (ATEN.unsqueeze.default, ATEN.slice.Tensor, ATEN.view.default, ATEN.reshape.default)


@dataclass(frozen=True)
class _Choice:
    """Choices by one condition, none of which needs another."""

    condition: Node
    wheres: list[Node]


def sink(module: GraphModule, done: Set[Node] = frozenset()) -> int:
    """Move what one side of a choice alone needs into branches, in place; returns how many there are.

    Choices of `done` stay as they are. The outermost choice first: what lies within its branch is sunk there.
    """
    graph, made = module.graph, 0
    graph.eliminate_dead_code()
    for choice in _choices(node for node in reversed(graph.nodes) if node not in done):
        sides = {side: _needed_by(graph, choice, side) for side in (RUN, REST)}
        side = max(sides, key=lambda one: macs(sides[one]))
        wheres = [one for one in choice.wheres if _may_pass(one, side, sides[side])]
        if macs(sides[side]) >= SMALLEST and wheres == _served(choice, side, sides[side]):
            made += _enclose(module, sides[side], wheres, side)
    graph.lint()
    module.recompile()
    return made


def macs(nodes: Iterable[Node]) -> int:
    """MACs an image of convolutions and matrix products; what is not known of a shape counts as 1."""
    total = 0
    for node in nodes:
        if node.target not in PRODUCTS:
            continue
        made, weight = _sizes(node), _sizes(node.args[1])
        inner = weight[1:] if node.target is ATEN.conv2d.default else weight[-1:]
        total += prod(made) * prod(inner)
    return total


def _choices(nodes: Iterable[Node]) -> list[_Choice]:
    """By condition, in the order of these nodes: the last of a graph first."""
    found: list[_Choice] = []
    for node in nodes:
        if node.target is not WHERE:
            continue
        condition = _root(node.args[0])
        same = [one for one in found if one.condition is condition]
        if same and not any(_needs(where, node) for where in same[-1].wheres):
            same[-1].wheres.append(node)
        else:
            found.append(_Choice(condition, [node]))
    return found


def _root(value: Any) -> Node:
    """The value before it was brought into another shape."""
    while value.target in SHAPING:
        value = value.args[0]
    assert isinstance(value, Node)
    return value


def _needs(node: Node, one: Node) -> bool:
    """Whether the node is computed from what `one` gives."""
    left, seen = [node], {node}
    while left:
        for given in left.pop().all_input_nodes:
            if given is one:
                return True
            if given not in seen:
                seen.add(given)
                left.append(given)
    return False


def _needed_by(graph: fx.Graph, choice: _Choice, side: int) -> list[Node]:
    """The nodes that nothing but this side of the choice needs, in the order of the graph."""
    needed: set[Node] = set()
    for node in reversed(graph.nodes):
        if node.op != "call_function" or not node.users or node in choice.wheres:
            continue
        if all(user in needed or _takes(user, node, choice, side) for user in node.users):
            needed.add(node)
    # a part of several results stays with what makes them: a branch is given tensors
    apart = {n for n in needed if n.target is operator.getitem and n.args[0] not in needed}
    return [node for node in graph.nodes if node in needed - apart]


def _takes(where: Node, node: Node, choice: _Choice, side: int) -> bool:
    """Whether it is a where of the choice, and reads the node on this side alone."""
    places = [place for place, given in enumerate(where.args) if given is node]
    return where in choice.wheres and places == [side]


def _served(choice: _Choice, side: int, nodes: Sequence[Node]) -> list[Node]:
    """Those of the choice's wheres that take what these nodes make."""
    return [one for one in choice.wheres if one.args[side] in nodes]


def _may_pass(where: Node, side: int, nodes: Sequence[Node]) -> bool:
    """Whether the other side has the shape of the result, and may be passed on as that."""
    other = where.args[RUN + REST - side]
    return where.args[side] in nodes and isinstance(other, Node) and _shape(other) == _shape(where)


def _enclose(module: GraphModule, nodes: Sequence[Node], wheres: Sequence[Node], side: int) -> int:
    """Compute these nodes, and choose, only where an image takes the side; else the other side is the answer.

    Returns how many branches were made, those within it included.
    """
    graph = module.graph
    inside = {*nodes, *wheres}
    ordered = [node for node in graph.nodes if node in inside]
    sizes = _own_sizes(graph, ordered)
    inside |= set(sizes)
    ordered = [*sizes, *ordered]
    read = list(dict.fromkeys(v for n in ordered for v in n.all_input_nodes if v not in inside))
    given, views = _apart(read)
    run, copies = _branch(given, [*views, *ordered], wheres)
    made = 1 + sink(run, {copies[where] for where in wheres})
    others = [where.args[RUN + REST - side] for where in wheres]
    rest = _passing(given, views, others)
    number = sum(node.op == "get_attr" and "branch" in str(node.target) for node in graph.nodes)
    names = f"branch{number}", f"branch{number + 1}"
    for name, branch in zip(names, (run, rest), strict=True):
        module.add_submodule(name, branch)
    with graph.inserting_before(wheres[0]):
        taken = wheres[0].args[0]
        if side == REST:
            taken = _call(graph, ATEN.logical_not.default, taken)
        some = _call(graph, ATEN.any.default, taken)
        branches = [graph.get_attr(name) for name in names]
        found = graph.call_function(torch.ops.higher_order.cond, (some, *branches, tuple(given)))
        found.meta["val"] = tuple(where.meta["val"] for where in wheres)
        for position, where in enumerate(wheres):
            part = graph.call_function(operator.getitem, (found, position))
            part.meta = dict(where.meta)
            where.replace_all_uses_with(part)
    for node in reversed(ordered):
        graph.erase_node(node)
    _sort(graph)
    return made


def _call(graph: fx.Graph, target: Callable[[Any], Any], given: Any) -> Node:
    """A node that calls a function of one tensor, with what is known of its result."""
    node = graph.call_function(target, (given,))
    node.meta["val"] = target(given.meta["val"])
    return node


def _branch(
    given: Sequence[Node], nodes: Sequence[Node], results: Sequence[Node]
) -> tuple[GraphModule, dict[Node, Node]]:
    """A function of these values that runs the nodes, and where each node is in it."""
    graph = fx.Graph()
    copies = _inputs(graph, given)
    for node in nodes:
        copies[node] = graph.node_copy(node, lambda value: copies[value])
    graph.output(tuple(copies[result] for result in results))
    return GraphModule(nn.Module(), graph), copies


def _passing(given: Sequence[Node], views: Sequence[Node], results: Sequence[Any]) -> GraphModule:
    """A function of these values that gives some of them, or of views of them; copies, as a branch may not give what it
    was given.
    """
    graph = fx.Graph()
    copies = _inputs(graph, given)
    for node in views:
        copies[node] = graph.node_copy(node, lambda value: copies[value])
    graph.output(tuple(_call(graph, ATEN.clone.default, copies[one]) for one in results))
    graph.eliminate_dead_code()
    return GraphModule(nn.Module(), graph)


def _own_sizes(graph: fx.Graph, nodes: Sequence[Node]) -> list[Node]:
    """New nodes by which these take the number of images off a tensor that they read, not as a number from outside.

    OpenVINO mistakes the operands of a branch that is given numbers among tensors.
    """
    read = dict.fromkeys(v for n in nodes for v in n.all_input_nodes if v not in nodes)
    made = []
    for number in [one for one in read if isinstance(one.meta.get("val"), torch.SymInt)]:
        for tensor in read:
            length = str(number.meta["val"])
            if length not in _shape(tensor):
                continue
            with graph.inserting_after(tensor):
                own = graph.call_function(SIZE, (tensor, _shape(tensor).index(length)))
            own.meta["val"] = number.meta["val"]
            for node in nodes:
                node.replace_input_with(number, own)
            made.append(own)
            break
    return made


def _apart(read: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """What a branch is given so that it can read these values, and the views of that which it then makes itself.

    Compilers refuse a branch that is given the same memory twice, such as decisions and decisions in another shape.
    """
    memory = [_viewed(node)[-1] for node in read]
    given: dict[Node, None] = {}
    views: dict[Node, None] = {}
    for node, own in zip(read, memory, strict=True):
        if memory.count(own) == 1:
            given[node] = None
            continue
        given[own] = None
        views |= dict.fromkeys(reversed(_viewed(node)[:-1]))
    given |= {size: None for view in views for size in view.all_input_nodes[1:]}
    return list(given), list(views)


def _viewed(node: Node) -> list[Node]:
    """The node, what it may be a view of, what that may be a view of, and so on."""
    found = [node]
    while _may_be_view(found[-1]):
        found.append(found[-1].all_input_nodes[0])
    return found


def _may_be_view(node: Node) -> bool:
    if node.target is operator.getitem:
        return _may_be_view(node.all_input_nodes[0])
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return any(one.alias_info is not None for one in node.target._schema.returns)


def _inputs(graph: fx.Graph, given: Sequence[Node]) -> dict[Node, Node]:
    found = {}
    for number, node in enumerate(given):
        found[node] = graph.placeholder(f"given{number}")
        found[node].meta = dict(node.meta)
    return found


def _sort(graph: fx.Graph) -> None:
    """Put every node behind what it reads; else the order stays."""
    place = {node: number for number, node in enumerate(graph.nodes)}
    waits = {node: len(node.all_input_nodes) for node in place}
    ready = [(place[node], node.name, node) for node in place if not waits[node]]
    heapq.heapify(ready)
    last = None
    while ready:
        node = heapq.heappop(ready)[2]
        if last is not None:
            last.append(node)
        last = node
        for user in node.users:
            waits[user] -= 1
            if not waits[user]:
                heapq.heappush(ready, (place[user], user.name, user))


def _shape(node: Node) -> tuple[str, ...]:
    value = node.meta.get("val")
    return tuple(map(str, value.shape)) if isinstance(value, torch.Tensor) else (node.name,)


def _sizes(node: Any) -> list[int]:
    value = node.meta.get("val") if isinstance(node, Node) else None
    shape = value.shape if isinstance(value, torch.Tensor) else ()
    return [n if isinstance(n, int) else 1 for n in shape]
