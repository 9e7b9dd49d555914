"""Family `timm`: any model of timm by name, its residual blocks gated, exits behind its stages.

Wightman, "PyTorch Image Models", 2019. Gates on residual blocks: Veit and Belongie, "Convolutional Networks with
Adaptive Inference Graphs", ECCV, 2018. Differs: a block whose sum an activation follows is closed behind it (what goes
on is the activated input), and where a policy opens by halves its output and its input are mixed, not the residual
scaled.

Shapes: B images, C channels, H x W pixels, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spaces.backbones.timm_config import TimmModelConfig
from spaces.backbones.timm_depths import timm_depths
from spaces.backbones.timm_graph import INPUT, Step, filled
from spaces.backbones.timm_models import created, known, unfit
from spaces.backbones.timm_state import classifiers, fitted
from spaces.backbones.timm_trunk import modules_behind
from spaces.backbones.timm_units import Unit, Units, units_of
from spaces.contract.family import Family
from spaces.contract.forward_pass import Walk
from spaces.contract.net import Output
from spaces.contract.policies import Policy
from spaces.contract.recipe import Recipe
from spaces.contract.space import choice, only_under
from spaces.contract.task import Task
from spaces.exits.exit_config import CONV_EXITS, ExitConfig
from spaces.exits.frozen_trunk import TrunkConfig
from spaces.exits.timm_trunk import MapsOf, TimmTrunk
from spaces.gates.closable import Closable
from spaces.gates.gate_heads import GateConfig
from spaces.gates.gated_blocks import BlockGates, GatedConfig, mixed
from spaces.gates.gated_chain import GatedChain
from spaces.gates.sparsity import SparsityConfig

_GATES, _EXITS = ("gates", "both"), ("exits", "both")
_UNITS: dict[tuple[str, str, Task], Units] = {}  # taken apart once a process


@only_under({"dynamics": _GATES}, GateConfig, SparsityConfig)
@only_under({"dynamics": _EXITS}, ExitConfig)
@dataclass(frozen=True, kw_only=True)
class TimmConfig(GatedConfig, TrunkConfig, TimmModelConfig):
    """A dynamic timm model; `gated=False` is the model itself."""

    granularity: str = choice(
        "layer", default="layer", searched=False, doc="gates skip whole blocks"
    )
    forced_open: str = choice(
        "none",
        "first",
        "first_last",
        default="none",
        searched=False,
        doc="residual blocks without a gate",
    )
    exits: str = choice(
        *CONV_EXITS,
        "linear",
        default="light",
        searched=False,
        doc="side branches that answer early",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone", known(self.backbone))

    @property
    def has_exits(self) -> bool:
        return self.dynamics != "gates"

    @property
    def published_pixels(self) -> bool:
        """Whether the model gets pixels as its published weights did."""
        frozen = self.normalization == "auto" and self.frozen
        return frozen or self.normalization == "published"


class TimmNet(GatedChain, TimmTrunk):
    """A timm model as `model`, with gates and exits beside it.

    The model's own weights keep their names behind `model.`; `load_plain` takes a state dict of the model itself.
    `ungated` are the blocks that cannot be skipped, with the reason.
    """

    config: TimmConfig

    def __init__(self, config: TimmConfig, task: Task) -> None:
        super().__init__()
        self.config, self.task = config, task
        self.model = created(config.backbone, task, pretrained=config.pretrained, stem=config.stem)
        self.trunk_config = config
        self.pixels = self.published_pixels() if config.published_pixels else None
        self.parts = self._taken_apart()
        self.exit_places = self.places_of_model()
        if config.truncated is not None:
            self.truncate(config.truncated)
        units = self.parts.units
        self.ungated = tuple((unit.name, unit.ungated) for unit in units if unit.ungated)
        self.head_macs = self.parts.head_macs
        self.plain_macs = (
            self.parts.tail_macs
            + self.head_macs
            + sum(unit.before_macs + unit.block_macs for unit in units)
        )
        self.add_gates(
            config, self._unit_gates() if config.gated and config.dynamics in _GATES else ()
        )
        self._add_exits()
        if config.frozen:
            self.freeze(self.classifier().in_features)

    def load_plain(self, state: dict[str, Tensor]) -> None:
        """Load the state dict of the plain timm model of the same name and sizes."""
        self.model.load_state_dict(state)

    def plain_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ours = {name: value for name, value in state.items() if name.startswith("model.")}
        model = {name.removeprefix("model."): value for name, value in (ours or state).items()}
        named = {f"model.{name}": value for name, value in fitted(model, self.model).items()}
        gone = tuple(f"{name}." for name in self.cut)
        named = {name: value for name, value in named.items() if not name.startswith(gone)}
        rest = {name: value for name, value in state.items() if name not in ours} if ours else {}
        return {**rest, **named}

    @property
    def classifiers(self) -> tuple[str, ...]:
        own = tuple(f"model.{name}" for name in classifiers(self.model))
        return (*own, "head_norm", "stage_head") if self.config.frozen else own

    def depths(self) -> dict[str, int]:
        return {f"model.{name}": depth for name, depth in timm_depths(self.model).items()}

    def chain(self) -> list[_GatedUnit]:
        return [_GatedUnit(self, unit, {}) for unit in self.parts.units]

    def forward(
        self, images: Tensor, policy: Policy | None = None, *, compact: bool = False
    ) -> Output:
        walk = self.begin(images, policy, compact=compact)
        if self.frozen and images.ndim == 2:
            return self.answers(images, policy)
        pixels = images if self.pixels is None else self.pixels(images)
        results, u = {INPUT: pixels}, pixels
        for index, unit in enumerate(self.parts.units):
            kind = "between" if index else "stem"
            self._mark_steps(kind, unit.before, results, walk, unit.before_macs)
            for step in unit.before:
                step.run(self, results)
            walk.pay(unit.before_macs)
            if not index and self.config.gate_source == "stem":
                walk.memory["stem"] = unit.inputs.maps(results[unit.reads])
            u = self.run_block(index, _GatedUnit(self, unit, results), results[unit.reads], walk)
            for name in unit.block.last:
                results.pop(name, None)
            u = self.visit(index, u, walk)
            results[unit.block.name] = u.clone() if unit.changed and index in self._exit_at else u
            if walk.empty:
                break
        else:
            self._mark_steps("last", self.parts.tail, results, walk, self.parts.tail_macs)
            for step in self.parts.tail:
                step.run(self, results)
            walk.pay(self.parts.tail_macs)
            u = results[self.parts.result]
        return self.finish(u, walk)

    def _mark_steps(
        self, kind: str, steps: tuple[Step, ...], results: Mapping[str, Any], walk: Walk, macs: int
    ) -> None:
        """Show steps as one unit of the tensors that they read."""
        if walk.policy.watch is None or not steps:
            return
        known = dict(results)
        names = [name for name, value in known.items() if isinstance(value, Tensor)]

        def run(*tensors: Tensor) -> Any:
            found = known | dict(zip(names, tensors, strict=True))
            for step in steps:
                step.run(self, found)
            return found[steps[-1].name]

        walk.mark(kind, run, *(known[name] for name in names), macs=macs)

    def behind_unit(self, unit: int) -> list[str]:
        return modules_behind(self, self.parts, unit)

    def head(self, u: Tensor) -> Tensor:
        if self.frozen:
            return self.answer(self.vector(u))
        return self.model.forward_head(u)  # type: ignore[operator]

    def head_feature(self, u: Tensor) -> Tensor:
        return self.vector(u) if self.frozen else self.parts.features.maps(u).mean((2, 3))

    def _taken_apart(self) -> Units:
        config, task = self.config, self.task
        key = (config.backbone, config.stem, task)
        if key not in _UNITS:
            generator = torch.Generator().manual_seed(0)
            images = torch.randn(2, task.channels, task.height, task.width, generator=generator)
            try:
                _UNITS[key] = units_of(self, images)
            except ValueError as error:
                raise ValueError(
                    f"backbone: {config.backbone} cannot be made dynamic: {error}"
                ) from None
            except Exception as error:  # whatever timm or torch say of a size
                raise unfit(config.backbone, task, error) from None
        return _UNITS[key]

    def _unit_gates(self) -> Iterator[BlockGates]:
        units = self.parts.units
        open_ones = [index for index, unit in enumerate(units) if not unit.ungated]
        if not open_ones:
            raise ValueError(
                f"backbone: {self.config.backbone} has no block that adds to an input of its output's shape, so none "
                "can be skipped; choose dynamics: exits, or another model"
            )
        forced: dict[str, list[int]] = {
            "none": [],
            "first": open_ones[:1],
            "first_last": [open_ones[0], open_ones[-1]],
        }
        for index in open_ones:
            if index not in forced[self.config.forced_open]:
                source = units[0 if self.config.gate_source == "stem" else index].inputs
                yield BlockGates(
                    index, source.channels, {"layer": 1}, {"layer": units[index].block_macs}
                )

    def _add_exits(self) -> None:
        config, units = self.config, self.parts.units
        places = self.exit_places
        on = config.gated and config.has_exits
        if on and not places:
            raise ValueError(
                f"backbone: {config.backbone} has no end of a stage where one tensor alone goes on, so no exit can "
                "stand there; choose dynamics: gates, or another model"
            )
        width = self.classifier().in_features if config.frozen else self.parts.features.channels
        self.add_exits(config, places, width, on=on)
        for unit, number in self._exit_at.items():
            outputs = units[unit].outputs
            if outputs.kind != "maps" and not config.reads_all:
                self.exit_heads[number] = MapsOf(outputs, self.exit_heads[number])
                if self.exit_gates:
                    self.exit_gates[number] = MapsOf(outputs, self.exit_gates[number])


class _GatedUnit(Closable):
    """A unit's block in one forward pass, which made `results` so far; closed, its input goes on."""

    def __init__(self, net: TimmNet, unit: Unit, results: Mapping[str, Tensor]) -> None:
        self.net, self.unit, self.results = net, unit, results

    def source(self, u: Tensor) -> Tensor:
        return self.unit.inputs.maps(u)

    def residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        """The block's whole output: what is added to the input cannot be told apart from it."""
        block = self.unit.block
        return block.call(
            self.net, *filled((block.args, block.kwargs), {**self.results, self.unit.reads: u})
        )

    def closed(self, u: Tensor) -> Tensor:
        """The input, behind the activation of the block's sum if it has one."""
        if self.unit.activation is None:
            return u
        activation = self.net.get_submodule(self.unit.activation)
        if isinstance(activation, nn.ReLU):
            return torch.relu(u)
        return activation(u.clone())  # for it may work in place

    def open_parts(self) -> Iterable[nn.Module]:
        block = self.unit.block
        if block.kind != "call_module":
            return []
        behind = self.unit.activation
        if behind is not None and list(self.net.get_submodule(behind).parameters()):
            return []  # it lies in the block, and runs where that is closed too
        return [self.net.get_submodule(block.target)]

    def joined(
        self, u: Tensor, residual: Callable[[], Tensor], z: Tensor | None, rows: Tensor | None
    ) -> Tensor:
        if z is None:
            return residual()
        skipped = self.closed(u)
        if rows is None:
            return _mixed(skipped, residual(), z)
        some = _mixed(skipped[rows], residual(), z)
        return skipped.to(some.dtype).index_copy(0, rows, some)

    def macs(self, open_channels: Mapping[str, Tensor | float]) -> int:
        return self.unit.block_macs


def _mixed(skipped: Tensor, made: Tensor, z_AU: Tensor) -> Tensor:
    return mixed(skipped, made, z_AU[:, 0].reshape(-1, *(1,) * (made.ndim - 1)))


def _built(config: TimmConfig, task: Task) -> TimmNet:
    # taking a model apart looks at values, which meta tensors do not have
    with torch.device("cpu"):
        return TimmNet(config, task)


FAMILY = Family(
    name="timm",
    doc="any model of timm by name, its residual blocks skipped, exits behind its stages",
    config=TimmConfig,
    recipe=Recipe,
    build=_built,
    size_dimensions=("backbone",),
    baseline_dimensions=("pretrained", "stem", "trunk", "normalization", "feature_views"),
    size_words={"backbone": "{}"},
    traits=("granularity", "exits", "attention", "gate", "loss", "target"),
    rebuilt_with={"pretrained": False},  # nothing is downloaded
)
