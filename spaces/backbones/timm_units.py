"""The units of a timm model: its forward pass as a stem, blocks in a row and a head, with their MACs.

A block can be skipped when it adds to an input of its output's shape; an exit may stand where one tensor alone goes on.

Shapes: B images, C channels, H x W pixels, N tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.backbones.timm_graph import INPUT, Ref, Step, filled, inner, refs, traced


@dataclass(frozen=True)
class Layout:
    """How a tensor holds C channels of H x W pixels: "maps" (B, C, H, W), "last" (B, H, W, C), "tokens" (B, N, C).

    Tokens may start with `extra` ones that stand for no pixel. "vector" (B, C) holds no pixels.
    """

    kind: str
    channels: int
    height: int
    width: int
    extra: int = 0

    def maps(self, u: Tensor) -> Tensor:
        """(B, C, H, W) of a tensor in this layout."""
        if self.kind == "maps":
            return u
        if self.kind == "last":
            return u.permute(0, 3, 1, 2)
        if self.kind == "vector":
            return u[:, :, None, None]
        return u[:, self.extra :].transpose(1, 2).unflatten(2, (self.height, self.width))


@dataclass(frozen=True)
class Unit:
    """Steps that always run, then a block, the last step. `ungated` says why the block cannot be skipped, if so."""

    name: str
    before: tuple[Step, ...]
    block: Step
    reads: str  # the result that the block reads
    activation: str | None = None  # the module behind the sum, if there is one
    ungated: str = ""
    alone: bool = True  # whether nothing but the block's result goes on
    changed: bool = False  # whether a later step changes that result in place
    before_macs: int = 0
    block_macs: int = 0
    inputs: Layout = field(default=Layout("maps", 0, 0, 0))
    outputs: Layout = field(default=Layout("maps", 0, 0, 0))


@dataclass(frozen=True)
class Units:
    """A model in a row: units, then a tail that ends in the features (named `result`) which the model's head reads."""

    units: tuple[Unit, ...]
    tail: tuple[Step, ...]
    result: str
    features: Layout
    tail_macs: int
    head_macs: int

    def stage_ends(self) -> list[int]:
        """Units behind which the shape changes; quarters of the depth where none does."""
        shapes = [
            (unit.outputs.channels, unit.outputs.height, unit.outputs.width) for unit in self.units
        ]
        ends = [index for index in range(len(shapes) - 1) if shapes[index] != shapes[index + 1]]
        quarters = sorted({len(shapes) * k // 4 - 1 for k in (1, 2, 3)} - {-1})
        return [index for index in ends or quarters if self.units[index].alone]


def units_of(root: nn.Module, images: Tensor) -> Units:
    """The units of the timm model `root.model`; `images` (2, C, H, W) show shapes and MACs.

    Raises ValueError (without the model's name) where the model cannot be taken apart.
    """
    model = root.get_submodule("model")
    residual, (*steps, output) = traced(model)
    (result,) = output.args
    with _quiet(model), torch.no_grad():
        macs, head_macs = _counted(root, model, steps, images[:1])
        probe = _probed(root, steps, images, macs)
        walked = model.forward_features(images)  # type: ignore[operator]
        if not isinstance(result, Ref) or not isinstance(walked, Tensor):
            raise ValueError("its features are more than one tensor")
        answers = model(images), model.forward_head(probe.results[result.name])  # type: ignore[operator]
    if not torch.equal(*(torch.nan_to_num(one) for one in answers)):
        raise ValueError("it does not compute features and then its head, alike each time")
    blocks = _blocks(model, steps, residual, probe)
    units, before = [], list[Step]()
    for step in steps:
        before.append(step)
        if step.name in blocks:
            units.append(_unit(root, before, probe, **blocks[step.name]))
            before = []
    if not units:
        raise ValueError("no unit is found in it")
    features = units[-1].outputs if before == [] else _features(model, walked)
    tail_macs = sum(macs[step.name] for step in before)
    return Units(tuple(units), tuple(before), result.name, features, tail_macs, head_macs)


def _features(model: nn.Module, features: Tensor) -> Layout:
    """How the tensor that the head reads holds its pixels."""
    _, *shape = features.shape
    if len(shape) == 2:
        return _tokens(model, *shape)
    if len(shape) == 3:
        last = shape[0] != getattr(model, "num_features", 0) == shape[2]
        return Layout("last", shape[2], *shape[:2]) if last else Layout("maps", *shape)
    return Layout("vector", shape[0], 1, 1)


@dataclass(frozen=True)
class _Probe:
    """What the steps returned for two images, and their MACs for one."""

    results: dict[str, Any]
    macs: dict[str, int]
    images: set[str]  # results that depend on the images
    in_place: set[str]  # results that a later step changed
    alone: set[str]  # results after which nothing else goes on


def _counted(
    root: nn.Module, model: nn.Module, steps: Iterable[Step], images: Tensor
) -> tuple[dict[str, int], int]:
    """MACs of each step and of the head for one image, attention written out so that its products are seen."""
    results, macs = {INPUT: images}, {}
    fused = {module: getattr(module, "fused_attn", None) for module in model.modules()}
    fused = {module: value for module, value in fused.items() if isinstance(value, bool)}
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    try:
        for step in steps:
            with FlopCounterMode(display=False) as counter:
                results[step.name] = step.call(root, *filled((step.args, step.kwargs), results))
            macs[step.name] = counter.get_total_flops() // 2
        features = model.forward_features(images)  # type: ignore[operator]
        with FlopCounterMode(display=False) as counter:
            model.forward_head(features)  # type: ignore[operator]
    finally:
        for module, value in fused.items():
            module.fused_attn = value  # type: ignore[assignment]
    return macs, counter.get_total_flops() // 2


def _probed(root: nn.Module, steps: Iterable[Step], images: Tensor, macs: dict[str, int]) -> _Probe:
    probe, live = _Probe({INPUT: images}, macs, {INPUT}, set(), set()), {INPUT}
    for step in steps:
        reads = refs((step.args, step.kwargs))
        before = {
            name: probe.results[name]._version
            for name in reads
            if isinstance(probe.results[name], Tensor)
        }
        probe.results[step.name] = step.call(root, *filled((step.args, step.kwargs), probe.results))
        probe.in_place.update(
            name for name, version in before.items() if probe.results[name]._version != version
        )
        if reads & probe.images:
            probe.images.add(step.name)
            live.add(step.name)
        live -= set(step.last)
        if live == {step.name}:
            probe.alone.add(step.name)
    return probe


def _blocks(
    model: nn.Module, steps: Iterable[Step], residual: Mapping[str, str | None], probe: _Probe
) -> dict[str, dict[str, Any]]:
    """Of the steps that end a unit: the activation behind the sum, and why they cannot be skipped, if so."""
    calls = [
        step
        for step in steps
        if step.kind == "call_module" and _layout(model, step, probe) is not None
    ]
    # nothing to skip, but exits may stand behind the layers that compute, the first aside
    if not residual:
        return {
            s.name: {"ungated": "has no shortcut"}
            for s in [s for s in calls if probe.macs[s.name]][1:]
        }
    types = {type(inner(model, name)) for name in residual}
    found = {}
    for step in calls:
        if step.target in residual:
            found[step.name] = {
                "activation": residual[step.target],
                "ungated": _obstacle(step, probe),
            }
        elif type(inner(model, step.target)) in types:
            found[step.name] = {"ungated": _obstacle(step, probe) or "its shortcut computes"}
    return found


def _obstacle(step: Step, probe: _Probe) -> str:
    """Why the step's input cannot stand for its output; empty when it can."""
    read = [name for name in refs((step.args, step.kwargs)) if name in probe.images]
    if len(read) != 1 or step.args[0] != Ref(read[0]):
        return "reads more than one tensor"
    given, made = probe.results[read[0]].shape[1:], probe.results[step.name].shape[1:]
    if given != made:
        return f"changes the shape from {_by(given)} to {_by(made)}"
    return "changes its input in place" if read[0] in probe.in_place else ""


def _unit(
    root: nn.Module, steps: list[Step], probe: _Probe, ungated: str, activation: str | None = None
) -> Unit:
    *before, block = steps
    model = root.get_submodule("model")
    reads = next(iter(refs(block.args)))
    inputs, outputs = (_layout(model, block, probe, of) for of in (reads, block.name))
    assert outputs is not None
    return Unit(
        name=block.target.removeprefix("model."),
        before=tuple(before),
        block=block,
        reads=reads,
        activation=None if activation is None else f"{block.target}.{activation}",
        ungated=ungated,
        alone=block.name in probe.alone,
        changed=block.name in probe.in_place,
        before_macs=sum(probe.macs[step.name] for step in before),
        block_macs=probe.macs[block.name],
        inputs=inputs or outputs,
        outputs=outputs,
    )


def _layout(model: nn.Module, step: Step, probe: _Probe, of: str | None = None) -> Layout | None:
    """How the step's result (or the tensor named) holds its pixels; None where it holds none."""
    tensor = probe.results[of or step.name]
    if (
        not isinstance(tensor, Tensor)
        or tensor.ndim not in (3, 4)
        or len(tensor) != len(probe.results[INPUT])
    ):
        return None
    if tensor.ndim == 4:
        _, *shape = tensor.shape
        if _channels_last(inner(model, step.target)):
            return Layout("last", shape[2], shape[0], shape[1])
        return Layout("maps", *shape)
    return _tokens(model, *tensor.shape[1:])


def _tokens(model: nn.Module, count: int, channels: int) -> Layout:
    """Tokens as pixels of the grid that the model embeds, else of a square, else of a column."""
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    height, width = getattr(getattr(model, "patch_embed", None), "grid_size", None) or (0, 0)
    for extra in (prefix, 0):
        if height * width == count - extra:
            return Layout("tokens", channels, height, width, extra)
    for extra in (prefix, 0):
        if (side := math.isqrt(count - extra)) ** 2 == count - extra:
            return Layout("tokens", channels, side, side, extra)
    return Layout("tokens", channels, count, 1)


def _channels_last(block: nn.Module) -> bool:
    """Whether the block's first layer reads channels in the last dimension."""
    layers = (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm)
    first = next((module for module in block.modules() if isinstance(module, layers)), None)
    return isinstance(first, nn.Linear | nn.LayerNorm) and "2d" not in type(first).__name__


@contextmanager
def _quiet(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, its parameters without gradients; restored afterwards."""
    modes = {module: module.training for module in model.modules()}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # torch's counter looks for the gradients of what modules are given
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module, mode in modes.items():
            module.training = mode


def _by(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
