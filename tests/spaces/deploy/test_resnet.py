"""The compact network answers and costs as the trained one, in torch and in onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import Output
from spaces.contract.policies import Threshold
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.generic import settled_gates
from spaces.deploy.resnet import DeployedResNet, by_block, deploy, gate_taus, rebuild
from spaces.families.gated_resnet import GatedResNet

TASK = Task(channels=3, height=16, width=16, classes=10, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
NETS: list[dict[str, Any]] = [
    {"granularity": "layer"},
    {"granularity": "layer", "shortcut": "A", "gate_source": "stem"},
    {"granularity": "channel", "channel_where": "both"},
    {"granularity": "channel", "channel_where": "outer", "forced_open": "first_last"},
    {"granularity": "channel", "channel_where": "both", "shortcut": "none"},
    {"granularity": "joint"},
    {"granularity": "joint", "channel_where": "outer", "gate": "independent"},
    {
        "granularity": "joint",
        "shared_trunk": False,
        "channel_where": "both",
        "gate_source": "stem",
        "two_logit": True,
        "gate_bn": False,
    },
    {"gated": False},
]
KNOBS = [
    Knobs(),
    Knobs(tau=0.7),
    Knobs(prune=0.3),
    Knobs(policy="always_on"),
    Knobs(policy="scaled_on"),
]
COUNT = 24


def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    contrast = torch.rand(COUNT, 3, 1, 1, generator=generator)
    return torch.rand(COUNT, 3, 16, 16, generator=generator) * contrast


def normal(x: Tensor) -> Tensor:
    return (x - torch.tensor(TASK.mean)[:, None, None]) / torch.tensor(TASK.std)[:, None, None]


@pytest.fixture(params=NETS, ids=lambda values: "-".join(str(v) for v in values.values()))
def net(request: pytest.FixtureRequest, scramble: Callable[..., GatedResNet]) -> GatedResNet:
    values = {"backbone": "resnet14", "width": 0.5, **request.param}
    made = Candidate.of(family("gated_resnet"), values, 1).build(TASK, 0)
    found = scramble(made).float()
    assert isinstance(found, GatedResNet)
    return found


def measured_rates(net: GatedResNet, knobs: Knobs) -> dict[str, tuple[float, ...]]:
    decisions = net.run(normal(pixels()), Knobs(tau=knobs.tau)).decisions
    return {
        d.gate.name: tuple(d.open_BU.double().expand(COUNT, -1).mean(0).tolist()) for d in decisions
    }


def pair(net: GatedResNet, knobs: Knobs) -> tuple[DeployedResNet, Output, dict[str, Any]]:
    """The compact network, what the trained one says under the same settled gates, and the description."""
    rates = measured_rates(net, knobs)
    settled = by_block(net, settled_gates(net, knobs, rates))
    effective = (
        Knobs(tau=knobs.tau, prune=knobs.prune or 0.0) if knobs.policy == "threshold" else knobs
    )
    expected = net(
        normal(pixels()), net.knobs_policy(effective, ids=torch.arange(COUNT), rates=rates)
    )
    taus = gate_taus(net, knobs)
    return deploy(net, settled, taus), expected, {"settled": settled, "taus": taus}


@pytest.mark.parametrize(
    "knobs", KNOBS, ids=lambda k: "-".join(str(v) for v in k.as_dict().values())
)
@torch.inference_mode()
def test_the_compact_network_answers_as_the_trained_one(net: GatedResNet, knobs: Knobs) -> None:
    compact, expected, _ = pair(net, knobs)
    logits, macs_B = compact.run(pixels())
    torch.testing.assert_close(logits, expected.logits_BC, rtol=1e-3, atol=1e-4)
    one_by_one = [compact.run(image[None]) for image in pixels()[:8]]
    torch.testing.assert_close(
        torch.cat([o[0] for o in one_by_one]), logits[:8], rtol=1e-3, atol=1e-4
    )
    assert torch.equal(torch.cat([o[1] for o in one_by_one]), macs_B[:8])
    plain = expected.macs_B.expand(COUNT)
    assert bool((macs_B <= plain).all())  # what two-logit heads and settled units cost is gone


@pytest.mark.parametrize("knobs", [Knobs(), Knobs(prune=0.3)], ids=["threshold", "pruned"])
@torch.inference_mode()
def test_a_description_and_weights_rebuild_the_same_network(net: GatedResNet, knobs: Knobs) -> None:
    compact, _, description = pair(net, knobs)
    again = rebuild(net.config, TASK, json.loads(json.dumps(description)))
    again.load_state_dict(compact.state_dict())
    assert torch.equal(again.eval()(pixels()), compact(pixels()))


@pytest.mark.parametrize(
    "knobs", [Knobs(), Knobs(prune=0.3), Knobs(policy="scaled_on")], ids=["t", "pruned", "scaled"]
)
@torch.inference_mode()
def test_onnxruntime_gives_equal_logits_and_macs_in_a_batch_and_one_by_one(
    net: GatedResNet, knobs: Knobs
) -> None:
    import onnxruntime

    from spaces.deploy.resnet_onnx import resnet_onnx

    compact, _, _ = pair(net, knobs)
    session = onnxruntime.InferenceSession(resnet_onnx(compact).SerializeToString())
    x = pixels()
    whole, macs_B = session.run(["logits", "macs"], {"pixels": x.numpy()})
    single = [session.run(["logits", "macs"], {"pixels": image[None].numpy()}) for image in x[:8]]
    logits, expected_B = compact.run(x)
    np.testing.assert_allclose(whole, logits.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        np.concatenate([one[0] for one in single]), whole[:8], rtol=1e-3, atol=1e-4
    )
    np.testing.assert_array_equal(macs_B, expected_B.numpy())
    np.testing.assert_array_equal(np.concatenate([one[1] for one in single]), macs_B[:8])


@pytest.mark.parametrize("closed", ["inner", "outer"])
@torch.inference_mode()
def test_a_block_without_a_shortcut_is_exported_with_all_its_filters_closed(
    scramble: Callable[..., GatedResNet], closed: str
) -> None:
    import onnxruntime

    from spaces.deploy.resnet_onnx import resnet_onnx

    values = {"backbone": "resnet8", "width": 0.5, "granularity": "channel", "shortcut": "none"}
    made = Candidate.of(family("gated_resnet"), {**values, "channel_where": "both"}, 1)
    net = scramble(made.build(TASK, 0)).float()
    shut = f"block1.{closed}"
    fixed = {g.name: (0.0 if g.name == shut else 1.0,) * g.units for g in net.gates}
    expected = net(normal(pixels()), Threshold(fixed=fixed))
    compact = deploy(net, by_block(net, fixed), gate_taus(net, Knobs()))
    session = onnxruntime.InferenceSession(resnet_onnx(compact).SerializeToString())
    logits, macs_B = session.run(["logits", "macs"], {"pixels": pixels().numpy()})
    for answers, costs in (compact.run(pixels()), compact.masked(pixels())):
        torch.testing.assert_close(answers, expected.logits_BC, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(macs_B, costs.numpy())
    np.testing.assert_allclose(logits, expected.logits_BC.numpy(), rtol=1e-3, atol=1e-4)
    assert bool((expected.macs_B >= torch.from_numpy(macs_B)).all())


@torch.inference_mode()
def test_pruning_drops_parameters_and_dynamic_gates(scramble: Callable[..., GatedResNet]) -> None:
    made = Candidate.of(
        family("gated_resnet"), {"backbone": "resnet14", "width": 0.5, "granularity": "joint"}, 1
    )
    net = scramble(made.build(TASK, 0)).float()
    kept, _, _ = pair(net, Knobs())
    pruned, _, _ = pair(net, Knobs(prune=0.4))
    count = [sum(p.numel() for p in m.parameters()) for m in (pruned, kept, net)]
    assert count[0] < count[1] <= count[2]
    assert not any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d) for m in kept.modules())


@torch.inference_mode()
def test_a_closed_block_runs_no_convolution(scramble: Callable[..., GatedResNet]) -> None:
    made = Candidate.of(family("gated_resnet"), {"backbone": "resnet14", "width": 0.5}, 1)
    net = scramble(made.build(TASK, 0)).float()
    compact, _, _ = pair(net, Knobs())
    calls: list[int] = []
    convs = [getattr(block, "conv1", None) for block in compact.blocks]
    for conv in convs:
        if conv is not None:
            conv.register_forward_hook(lambda *_: calls.append(1))
    full = max(float(compact.run(image[None])[1]) for image in pixels())
    for image in pixels():
        calls.clear()
        _, macs_B = compact.run(image[None])
        if float(macs_B) < full:
            break
    assert float(macs_B) < full, "no image skips anything: the test needs other gates"
    assert len(calls) < sum(conv is not None for conv in convs)


def test_policies_that_draw_cannot_be_exported(scramble: Callable[..., GatedResNet]) -> None:
    net = Candidate.of(family("gated_resnet"), {"backbone": "resnet8", "width": 0.25}, 1).build(
        TASK, 0
    )
    assert isinstance(net, GatedResNet)
    with pytest.raises(ValueError, match="policy ensemble draws at random and cannot be exported"):
        settled_gates(net, Knobs(policy="ensemble", passes=3), {})
