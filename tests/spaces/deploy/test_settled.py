"""Networks whose gates are settled for good are shipped as plain ones: no gates, no blocks that never run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from onnx import GraphProto

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.deploy.generic import Deployed
from spaces.deploy.ship import DeployedNet, onnx_model, rebuild, ship
from tests.spaces.variants import COLOUR

OPEN = {"forced_open": "none"}
NETS: dict[str, dict[str, Any]] = {
    "gated_resnet": {"backbone": "resnet26", "width": 0.25, "granularity": "layer", **OPEN},
    "gated_mobilenet": {"width": 0.25, "granularity": "joint", **OPEN},
    "gated_densenet": {"depth": 22, "growth": 8, "exits": "none", **OPEN},
    "timm": {"backbone": "resnet18", "dynamics": "gates", **OPEN},
    "skip_vit": {"layers": 3, "dim": 64, "head_dim": 32, "patch": 8},
}
DECIDING = ("gate", "oracle")


def settled(name: str) -> tuple[Candidate, DynamicNet, DeployedNet]:
    """A network whose layer gates are closed and open in turn, and what is shipped of it."""
    candidate = Candidate.of(family(name), NETS[name], 1)
    net = candidate.build(COLOUR, 0).eval()
    layers = [gate.name for gate in net.gates if gate.kind == "layer"]
    rates = {gate.name: (1.0,) * gate.units for gate in net.gates}
    rates |= dict.fromkeys(layers[::2], (0.0,))
    return candidate, net, ship(net, Knobs(prune=0.0), rates)


def operations(graph: GraphProto) -> set[str]:
    found = {node.op_type for node in graph.node}
    inner = [one.g for node in graph.node for one in node.attribute if one.HasField("g")]
    return found.union(*map(operations, inner))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_what_is_settled_is_shipped_as_a_plain_network(name: str) -> None:
    candidate, net, shipped = settled(name)
    assert isinstance(shipped, Deployed)
    assert not shipped.dynamic
    assert not [key for key in shipped.state_dict() if any(word in key for word in DECIDING)]
    whole, left = (sum(p.numel() for p in one.parameters()) for one in (net, shipped))
    assert left < 0.9 * whole, "closed blocks are gone too"
    pixels = torch.rand(2, 3, 16, 16)
    ops = operations(onnx_model(shipped, pixels).graph)
    assert not ops & {"If", "Where", "Sigmoid", "Greater"}
    again = rebuild(name, candidate.config.__dict__, COLOUR, shipped.description())
    older = {f"net.{key}": value for key, value in net.state_dict().items()}
    with torch.inference_mode():
        expected = shipped(pixels)
        again.load_state_dict(shipped.state_dict())
        assert torch.equal(again(pixels), expected)
        again.load_state_dict(older)  # as exports were before, with all weights
        assert torch.equal(again(pixels), expected)
