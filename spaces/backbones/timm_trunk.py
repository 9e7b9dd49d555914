"""Which tensors of a timm model its units up to a place depend on, and the model cut off behind a place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import nn

from spaces.backbones.timm_graph import Step
from spaces.backbones.timm_units import Unit, Units


def steps_to(units: Sequence[Unit]) -> list[Step]:
    """The steps of these units, in order."""
    return [step for unit in units for step in (*unit.before, unit.block)]


def tensors_of_steps(steps: Iterable[Step], names: Iterable[str]) -> list[str]:
    """Those of the names of a state dict that the steps read."""
    modules, tensors = set(), set()
    for step in steps:
        if step.kind == "call_module":
            modules.add(f"{step.target}.")
        elif step.kind == "get_attr":
            tensors.add(step.target)
    return [name for name in names if name in tensors or name.startswith(tuple(modules))]


def cut_behind(root: nn.Module, parts: Units, last: int) -> tuple[Units, tuple[str, ...]]:
    """The units up to number `last`, and the names of the modules of `root.model` that are emptied, for they run later.

    What the last unit puts out is then what the head reads; the model's own head is gone too.
    """
    gone = modules_behind(root, parts, last)
    for name in gone:
        root.set_submodule(name, nn.Identity())
    end = parts.units[last]
    short = replace(
        parts,
        units=parts.units[: last + 1],
        tail=(),
        result=end.block.name,
        features=end.outputs,
        tail_macs=0,
        head_macs=0,
    )
    return short, tuple(gone)


def modules_behind(root: nn.Module, parts: Units, last: int) -> list[str]:
    """The names of the modules of `root.model` that no unit up to number `last` runs or reads."""
    kept = steps_to(parts.units[: last + 1])
    needed = tuple(step.target for step in kept if step.kind == "call_module")
    needed += tuple(s.target.rpartition(".")[0] for s in kept if s.kind == "get_attr")
    return list(_not_needed(root, "model", needed))


def _not_needed(root: nn.Module, name: str, needed: tuple[str, ...]) -> Iterator[str]:
    """Every module below `name` that none of the needed ones is, holds or lies in."""
    for child, _ in root.get_submodule(name).named_children():
        path = f"{name}.{child}"
        if any(one == path or path.startswith(f"{one}.") for one in needed):
            continue
        if any(one.startswith(f"{path}.") for one in needed):
            yield from _not_needed(root, path, needed)
        else:
            yield path
