"""A timm model's forward pass as steps, and the residual blocks in it.

Found by symbolic tracing (Reed, DeVito, He, Ussery and Ansel, "torch.fx: Practical Program Capture and Transformation
for Deep Learning in Python", MLSys, 2022) and not by a list of architectures: a block is residual when its own forward
adds something to its input.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from spaces.contract.error_lines import first_line

logger = logging.getLogger(f"dynafront.{__name__}")

INPUT = "images"
_ACTIVATIONS = (
    "torch.nn.modules.activation",
    "timm.layers.activations",
    "timm.layers.activations_me",
)
_ADDS = ("add", "iadd", "__add__", "add_")
_SAME_ORDER = (
    "reshape",
    "view",
    "flatten",
    "contiguous",
    "unflatten",
)  # leave elements in their order
_NO_OPERATION = (nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class Ref:
    """The result of an earlier step, as an argument of a later one."""

    name: str


@dataclass(frozen=True)
class Step:
    """One call: of a module by name, of a function, of a method, or the reading of a parameter."""

    kind: str
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    name: str
    last: tuple[str, ...] = ()  # results that no later step reads

    def run(self, root: nn.Module, results: dict[str, Any]) -> None:
        """Add the step's result to `results`, by name, and drop what is no longer read."""
        results[self.name] = self.call(root, *(filled((self.args, self.kwargs), results)))
        for name in self.last:
            results.pop(name, None)

    def call(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.kind == "call_module":
            return root.get_submodule(self.target)(*args, **kwargs)
        if self.kind == "call_method":
            return getattr(args[0], self.target)(*args[1:], **kwargs)
        if self.kind == "get_attr":
            where, _, attribute = self.target.rpartition(".")
            return getattr(root.get_submodule(where), attribute)
        return self.target(*args, **kwargs)


def traced(model: nn.Module) -> tuple[dict[str, str | None], list[Step]]:
    """Residual blocks by name, with the activation behind the sum, and the steps of the features around them."""
    residual: dict[str, str | None] = {}
    inside: set[str] = {"model"}
    _find_outermost(model, "model", residual)
    types = {type(inner(model, name)) for name in residual}
    for name, module in model.named_modules(prefix="model"):
        if type(module) in types and not any(name.startswith(f"{other}.") for other in residual):
            parts = name.split(".")
            inside |= {".".join(parts[:n]) for n in range(1, len(parts))}
    if not residual:
        inside |= {
            name
            for name, module in model.named_modules(prefix="model")
            if type(module) is nn.Sequential
        }
    try:
        return residual, list(_steps(_Tracer(inside).trace(_Features(model))))
    except Exception as error:
        raise ValueError(f"its forward pass cannot be traced ({first_line(error)})") from None


def _find_outermost(module: nn.Module, name: str, residual: dict[str, str | None]) -> None:
    for child_name, child in module.named_children():
        is_residual, activation = shortcut(child)
        if is_residual:
            residual[f"{name}.{child_name}"] = activation
        else:
            _find_outermost(child, f"{name}.{child_name}", residual)


def shortcut(module: nn.Module) -> tuple[bool, str | None]:
    """Whether the module's own forward adds to its input, and the name of the activation behind the sum, if any."""
    if type(module).__module__.startswith("torch.nn"):
        return False, None
    try:
        graph = _Tracer({"model"}).trace(_Alone(module))
    except (
        Exception
    ) as error:  # whatever stops the tracer, the module is no block that we can vouch for
        logger.debug("%s is no residual block that can be traced: %s", type(module), error)
        return False, None
    (output,) = [node for node in graph.nodes if node.op == "output"]
    node, activation = output.args[0], None
    if isinstance(node, fx.Node) and node.op == "call_module":
        assert isinstance(node.target, str)
        name = node.target.removeprefix("model").removeprefix(".")
        if type(module.get_submodule(name)).__module__ in _ACTIVATIONS:
            node, activation = node.args[0], name
    return _sums(module, node) > 0, activation


def _sums(module: nn.Module, node: Any) -> int:
    """How many sums lie on the way from the module's input to `node` along its shortcut; -1 where there is none."""
    if not isinstance(node, fx.Node):
        return -1
    if node.op == "placeholder":
        return 0
    if node.op == "call_module":
        assert isinstance(node.target, str)
        inner = module.get_submodule(node.target.removeprefix("model."))
        empty = isinstance(inner, nn.Sequential) and not len(inner)
        passes = empty or isinstance(inner, _NO_OPERATION) or shortcut(inner) == (True, None)
        return _sums(module, node.args[0]) if passes else -1
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name in _ADDS:
        ways = [_sums(module, arg) for arg in node.args[:2]]
        rest = node.args[ways.index(min(ways))]
        one_way = max(ways) >= 0 > min(ways) and isinstance(rest, fx.Node) and _reads_input(rest)
        return 1 + max(ways) if one_way else -1
    if node.op == "call_method" and name in _SAME_ORDER:
        return _sums(module, node.args[0])
    return -1


def _reads_input(node: fx.Node) -> bool:
    return node.op == "placeholder" or any(_reads_input(one) for one in node.all_input_nodes)


class _Features(nn.Module):
    """What comes before a timm model's head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model.forward_features(images)  # type: ignore[operator]


class _Alone(nn.Module):
    """A module of one input; its other arguments keep their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model(images)


class _Tracer(fx.Tracer):
    """Looks into the modules named, and at all others from outside."""

    def __init__(self, inside: set[str]) -> None:
        from timm.layers import get_notrace_functions

        super().__init__((math,), tuple(get_notrace_functions()), param_shapes_constant=True)
        self.inside = inside

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.inside


def _steps(graph: fx.Graph) -> Iterator[Step]:
    """The graph's nodes as steps, each saying which results nobody reads after it; the last is the output."""
    nodes = [node for node in graph.nodes if node.op != "placeholder"]
    (start,) = [node for node in graph.nodes if node.op == "placeholder"]
    last: dict[fx.Node, list[str]] = {node: [] for node in nodes}
    for node in [start, *nodes]:
        reader = max(node.users, key=nodes.index, default=node)
        if reader in last:
            last[reader].append(INPUT if node is start else node.name)

    for node in nodes:
        args, kwargs = _plain(node.args), _plain(node.kwargs)
        yield Step(node.op, node.target, args, kwargs, node.name, tuple(last[node]))


def _plain(value: Any) -> Any:
    """A node's argument, with references for nodes and containers of Python's own."""
    if isinstance(value, fx.Node):
        return Ref(INPUT if value.op == "placeholder" else value.name)
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, slice):
        return slice(_plain(value.start), _plain(value.stop), _plain(value.step))
    return value


def filled(value: Any, results: Mapping[str, Any]) -> Any:
    """The value with references replaced by the results they stand for."""
    if isinstance(value, Ref):
        return results[value.name]
    if isinstance(value, tuple | list):
        return type(value)(filled(one, results) for one in value)
    if isinstance(value, dict):
        return {name: filled(one, results) for name, one in value.items()}
    if isinstance(value, slice):
        return slice(*(filled(one, results) for one in (value.start, value.stop, value.step)))
    return value


def refs(value: Any) -> set[str]:
    """The names of the results that the value refers to."""
    if isinstance(value, Ref):
        return {value.name}
    parts = [value.start, value.stop, value.step] if isinstance(value, slice) else value
    parts = list(parts.values()) if isinstance(parts, dict) else parts
    return set().union(*(refs(one) for one in parts)) if isinstance(parts, tuple | list) else set()


def inner(model: nn.Module, target: str) -> nn.Module:
    return model.get_submodule(target.removeprefix("model").removeprefix("."))
