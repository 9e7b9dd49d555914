"""How trained networks are shipped: as compact ResNets where that is possible, else in the form that any family has."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.contract.cascades import CASCADE, CascadeRule
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy import generic, resnet
from spaces.deploy.cascade import DeployedCascade
from spaces.deploy.generic import Deployed, Settings
from spaces.deploy.onnx_branches import sink
from spaces.deploy.onnx_small_ops import shorten
from spaces.deploy.resnet import DeployedResNet
from spaces.deploy.thresholds import THRESHOLDS
from spaces.families.gated_resnet import GatedResNet, GatedResNetConfig
from spaces.gates.feedforward_gates import FEEDFORWARD
from spaces.gates.gate_heads import HEEDLESS

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto
    from torch.export import ExportedProgram

logger = logging.getLogger(f"dynafront.{__name__}")
DeployedNet = Deployed | DeployedResNet | DeployedCascade


def ship(net: DynamicNet, knobs: Knobs, rates: Rates, others: Settings = ()) -> DeployedNet:
    """The network to ship. Raises ValueError for knobs that draw at random.

    It can be run at the thresholds of the `others` too, which differ from the knobs in nothing else.
    """
    settings = [(knobs, rates), *others]
    if ships_as_resnet(net):
        assert isinstance(net, GatedResNet)
        fixed = generic.settled(net, settings)
        undecided = any(value is None for units in fixed.values() for value in units)
        # gates that no image matters to have no heads there; points that settle them otherwise need them
        if net.config.gate not in HEEDLESS or not undecided:
            taus = resnet.gate_taus(net, knobs)
            return resnet.deploy(net, resnet.by_block(net, fixed), taus)
    return generic.deploy(net, settings)


def ships_as_resnet(net: DynamicNet) -> bool:
    """Whether the network is shipped as a compact ResNet, not in the form that any family has."""
    return isinstance(net, GatedResNet) and not (
        net.exit_count
        or net.config.has_bottlenecks
        or net.gate_net
        or net.config.gate in FEEDFORWARD
    )


def ship_baseline(net: DynamicNet) -> DeployedNet:
    """The baseline of the same backbone, made ready to ship in the same way."""
    rates = {gate.name: (1.0,) * gate.units for gate in net.gates}
    return ship(net, Knobs(policy="always_on"), rates)


def rebuild(
    family_name: str, config: Mapping[str, Any], task: Task, values: Mapping[str, Any]
) -> DeployedNet:
    """The network that `values` (its description) and its config describe, its weights still to be loaded."""
    if values["deployed"] == CASCADE:
        return _rebuilt_cascade(values)
    if values["deployed"] == "resnet":
        return resnet.rebuild(GatedResNetConfig(**config), task, values)
    own = family(family_name)
    network = own.build(own.config(**{**config, **own.rebuilt_with}), task)
    return generic.rebuild(network, values)


def _rebuilt_cascade(values: Mapping[str, Any]) -> DeployedCascade:
    members = []
    for one in values["members"]:
        task = Task.from_dict(one["task"])
        member = rebuild(one["family"], one["config"], task, one["network"])
        assert isinstance(member, Deployed)
        members.append(member)
    thresholds = tuple(values["thresholds"])
    rule = CascadeRule(rule=values["rule"], thresholds=thresholds, committee=values["committee"])
    return DeployedCascade(members, rule)


@dataclass(frozen=True)
class OnnxForms:
    """A network as ONNX: `model` skips what no image of a batch needs, `flat()` computes everything and chooses."""

    model: ModelProto
    flat: Callable[[], ModelProto]


def onnx_model(net: DeployedNet, pixels: Tensor) -> ModelProto:
    """The network as ONNX, with the MACs of each image as second output, thresholds as an input that may be left out.

    What no image of a batch needs is skipped: blocks that are closed, what lies behind an exit that answers them all.
    """
    return onnx_forms(net, pixels).model


def onnx_forms(net: DeployedNet, pixels: Tensor) -> OnnxForms:
    """What `onnx_model` gives, and the same without branches, the form to quantize."""
    if isinstance(net, DeployedResNet):
        from spaces.deploy.resnet_onnx import resnet_onnx

        return OnnxForms(resnet_onnx(net), partial(resnet_onnx, net, flat=True))
    return general_onnx(net, pixels)


def general_onnx(net: DeployedNet, pixels: Tensor) -> OnnxForms:
    """What PyTorch's exporter makes of any network, and the same with branches."""
    import onnx_ir as ir

    flat = _flat_model(net, pixels)
    model = ir.from_proto(flat)
    sink(model)
    return OnnxForms(ir.to_proto(model), lambda: flat)


def _flat_model(net: DeployedNet, pixels: Tensor) -> ModelProto:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            traced(net, pixels),
            input_names=["pixels", *([THRESHOLDS] if net.thresholds else [])],
            output_names=["logits", "macs"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    # what PyTorch writes of its call stack names folders of this machine
    ClearMetadataAndDocStringPass()(program.model)
    shorten(program.model)
    _set_default(program.model, list(net.thresholds.values()))
    return program.model_proto


def given_to(
    net: DeployedNet, pixels: Tensor
) -> tuple[tuple[Tensor, ...], tuple[dict[int, Any], ...]]:
    """What a traced network is given, and which sizes of that may be others."""
    sizes: tuple[dict[int, Any], ...] = ({0: torch.export.Dim.DYNAMIC},)
    if not net.thresholds:
        return (pixels,), sizes
    thresholds = torch.tensor(list(net.thresholds.values()), dtype=torch.float64)
    return (pixels, thresholds), (*sizes, {})


def traced(net: DeployedNet, pixels: Tensor) -> ExportedProgram:
    """What the masked form computes for batches of any size, as torch.export writes it."""
    from torch._dynamo.exc import UserError  # takes seconds

    given, sizes = given_to(net, pixels)
    masked = _Masked(net)
    try:
        return torch.export.export(masked, given, dynamic_shapes=sizes, strict=False)
    except UserError as error:  # a model took the batch for a constant, as `len` does
        logger.debug("reading the network's Python code, which takes four times as long: %s", error)
        return torch.export.export(masked, given, dynamic_shapes=sizes, strict=True)


def _set_default(model: ir.Model, values: list[float]) -> None:
    """The thresholds that hold where none are given: an initializer with the name of the input."""
    import onnx_ir as ir

    for given in model.graph.inputs:
        if given.name == THRESHOLDS:
            given.const_value = ir.tensor(np.array(values, np.float64), name=THRESHOLDS)
            model.graph.initializers[THRESHOLDS] = given


class _Masked(nn.Module):
    """The masked form of a copy, whose activations are not in place: those take exporters twice the time."""

    def __init__(self, net: DeployedNet) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).eval()
        for module in self.net.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # type: ignore[assignment]

    def forward(self, pixels: Tensor, thresholds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.net.masked(pixels, thresholds)
