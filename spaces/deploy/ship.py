"""How trained networks are shipped: as compact ResNets where that is possible, else in the form that any family has."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy import generic, resnet
from spaces.deploy.generic import Deployed
from spaces.deploy.onnx_branches import sink
from spaces.deploy.resnet import DeployedResNet
from spaces.families.gated_resnet import GatedResNet, GatedResNetConfig

if TYPE_CHECKING:
    from onnx import ModelProto

DeployedNet = Deployed | DeployedResNet


def ship(net: DynamicNet, knobs: Knobs, rates: Rates) -> DeployedNet:
    """The network to ship. Raises ValueError for knobs that draw at random."""
    if ships_as_resnet(net):
        assert isinstance(net, GatedResNet)
        settled = resnet.settled_by_block(net, knobs, rates)
        return resnet.deploy(net, settled, resnet.gate_taus(net, knobs))
    return generic.deploy(net, knobs, rates)


def ships_as_resnet(net: DynamicNet) -> bool:
    """Whether the network is shipped as a compact ResNet, not in the form that any family has."""
    return isinstance(net, GatedResNet) and not (
        net.exit_count or net.config.has_bottlenecks or net.gate_net
    )


def ship_baseline(net: DynamicNet) -> DeployedNet:
    """The baseline of the same backbone, made ready to ship in the same way."""
    rates = {gate.name: (1.0,) * gate.units for gate in net.gates}
    return ship(net, Knobs(policy="always_on"), rates)


def rebuild(
    family_name: str, config: Mapping[str, Any], task: Task, values: Mapping[str, Any]
) -> DeployedNet:
    """The network that `values` (its description) and its config describe, its weights still to be loaded."""
    if values["deployed"] == "resnet":
        return resnet.rebuild(GatedResNetConfig(**config), task, values)
    own = family(family_name)
    network = own.build(own.config(**{**config, **own.rebuilt_with}), task)
    return generic.rebuild(network, values)


def onnx_model(net: DeployedNet, pixels: Tensor) -> ModelProto:
    """The network as ONNX, with the MACs of each image as second output.

    What no image of a batch needs is skipped: blocks that are closed, what lies behind an exit that answers them all.
    """
    if isinstance(net, DeployedResNet):
        from spaces.deploy.resnet_onnx import resnet_onnx

        return resnet_onnx(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            _Masked(net),
            (pixels,),
            input_names=["pixels"],
            output_names=["logits", "macs"],
            dynamic_shapes={"pixels": {0: torch.export.Dim.DYNAMIC}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    sink(program.model)
    return program.model_proto


class _Masked(nn.Module):
    def __init__(self, net: Deployed) -> None:
        super().__init__()
        self.net = net.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.masked(pixels)
