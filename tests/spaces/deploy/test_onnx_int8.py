"""Networks in 8-bit integers: what runs in integers, what keeps float32, and that skipping stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.onnx_branches import PRODUCTS
from spaces.deploy.onnx_int8 import decisions, int8_model
from spaces.deploy.ship import DeployedNet, onnx_forms, ship
from spaces.deploy.thresholds import is_exit
from tests.spaces.conftest import scrambled

SIDE = 24
TASK = Task(channels=3, height=SIDE, width=SIDE, classes=5, mean=(0.5,) * 3, std=(0.25,) * 3)
EXITS = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(0.5, 0.5, 0.5))
# the network, its setting, and products that keep float32: two of each gate, one of each exit and of the end
NETS: dict[str, tuple[dict[str, Any], Knobs, int]] = {
    "gated_resnet": ({"backbone": "resnet14", "forced_open": "none"}, Knobs(), 2 * 6 + 1),
    "timm": ({"backbone": "resnet10t", "dynamics": "exits"}, EXITS, 3 + 1),
}
INTEGER = ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat")


def pixels(count: int = 32) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, SIDE, SIDE), dtype=np.float32)


@dataclass(frozen=True)
class Case:
    """A network in float32, without branches, and in integers."""

    net: DeployedNet
    model: onnx.ModelProto
    flat: onnx.ModelProto
    small: onnx.ModelProto
    kept: int


@pytest.fixture(scope="module", params=list(NETS))
def case(request: pytest.FixtureRequest) -> Case:
    values, knobs, kept = NETS[request.param]
    net = scrambled(Candidate.of(family(request.param), values, 2).build(TASK, 0)).float().eval()
    shipped = ship(net, knobs, {gate.name: (0.5,) * gate.units for gate in net.gates})
    forms = onnx_forms(shipped, torch.from_numpy(pixels(2)))
    flat = forms.flat()
    return Case(shipped, forms.model, flat, int8_model(flat, [pixels()]), kept)


def everything_runs(net: DeployedNet, *, run: bool = True) -> np.ndarray:
    """Thresholds at which every gate opens and no image leaves, or the other way round."""
    return np.array([float(is_exit(name) == run) * 3 - 1 for name in net.thresholds])


def run(model: onnx.ModelProto, thresholds: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = {"pixels": images, "thresholds": thresholds}
    return list(session.run(["logits", "macs"], given))


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


def as_run(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """The graph that ONNX Runtime makes of it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(file), 3
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return onnx.load(file)


@pytest.mark.slow
def test_products_run_in_integers_inside_of_branches_too_and_decisions_in_float32(
    case: Case, tmp_path: Path
) -> None:
    kept = [n for n in decisions(ir.from_proto(case.flat).graph) if n.op_type in PRODUCTS]
    assert len(kept) == case.kept
    graph = as_run(case.small, tmp_path / "run.onnx").graph
    nodes = list(all_nodes(graph))
    assert sum(n.op_type.removeprefix("Fused") in PRODUCTS for n in nodes) == case.kept
    whole = sum(n.op_type in PRODUCTS for n in case.flat.graph.node)
    integer = [n.op_type in INTEGER for n in nodes]
    assert sum(integer) == whole - case.kept
    outside = sum(n.op_type in INTEGER for n in graph.node)
    assert sum(integer) - outside >= 4, "in branches"
    assert case.small.ByteSize() < 0.45 * case.model.ByteSize()


@pytest.mark.slow
def test_what_is_skipped_stays_skipped_at_any_batch(case: Case) -> None:
    for every in (True, False):
        thresholds = everything_runs(case.net, run=every)
        for images in (pixels(), pixels(1)):
            theirs, wanted = run(case.model, thresholds, images)
            ours, macs = run(case.small, thresholds, images)
            assert macs.tolist() == wanted.tolist()
            assert np.abs(ours - theirs).max() < 0.2 * np.ptp(theirs)
