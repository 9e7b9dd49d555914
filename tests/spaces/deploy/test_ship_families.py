"""Every family's winner can be shipped: rebuilt from its description, equal answers, and ONNX that onnxruntime runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.policies import Threshold
from spaces.contract.registry import families, family
from spaces.contract.task import Task
from spaces.deploy.generic import settled_gates
from spaces.deploy.ship import DeployedNet, onnx_model, rebuild, ship, ship_baseline
from tests.spaces.conftest import scrambled

TASK = Task(channels=1, height=16, width=16, classes=5, mean=(0.4,), std=(0.3,))
_VIT: dict[str, Any] = {"layers": 4, "dim": 32, "head_dim": 16}
NETS: dict[str, tuple[dict[str, Any], Knobs]] = {
    "gated_resnet": ({"backbone": "resnet8", "width": 0.25}, Knobs()),
    "multi_exit": (
        {"backbone": "resnet18", "width": 0.125},
        Knobs(
            policy="always_on",
            exit_rule="maxprob",
            exit_thresholds=(0.6, 0.6, 0.6, 0.6),
            fallback="ensemble",
        ),
    ),
    "gated_densenet": ({"depth": 22, "growth": 12}, Knobs()),
    "gated_mobilenet": (
        {"width": 0.25, "granularity": "joint", "channel_group": 16},
        Knobs(tau=0.6),
    ),
    "dense_vit": (_VIT, Knobs(policy="always_on")),
    "skip_vit": (
        {**_VIT, "exits": "cls"},
        Knobs(exit_rule="entropy", exit_thresholds=(0.2, 0.2, 0.2)),
    ),
    "shuffled_vit": (_VIT, Knobs(policy="always_on", keep=(0, 2))),
    "timm": (
        {"backbone": "resnet10t", "dynamics": "exits"},
        Knobs(policy="always_on", exit_rule="margin", exit_thresholds=(0.5, 0.5, 0.5)),
    ),
    "gated_features": ({"cell": 2}, Knobs()),
}
# the others leave layers out for every image, or their gates guard single features
SURE = {"gated_densenet"}  # whose gates say 0 or 1 of these images
SKIPPING = {"multi_exit", "skip_vit", "timm", "gated_densenet", "gated_mobilenet"}


def built(name: str) -> tuple[DynamicNet, Candidate, Knobs, dict[str, tuple[float, ...]]]:
    values, knobs = NETS[name]
    candidate = Candidate.of(family(name), values, 2)
    net = scrambled(candidate.build(TASK, 0)).float()
    with torch.no_grad():
        decisions = net((pixels(64) - 0.4) / 0.3, Threshold(tau=knobs.tau)).decisions
    rates = {
        d.gate.name: tuple(d.open_BU.double().expand(64, -1).mean(0).tolist()) for d in decisions
    }
    return net, candidate, knobs, rates


def pixels(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 16, 16, generator=generator)


def test_every_family_is_here() -> None:
    assert set(NETS) == set(families())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_description_and_weights_rebuild_the_network_that_answers_as_the_trained_one(
    name: str,
) -> None:
    net, candidate, knobs, rates = built(name)
    shipped = ship(net, knobs, rates)
    description = json.loads(json.dumps(shipped.description()))
    again = rebuild(name, asdict(candidate.config), TASK, description)
    again.load_state_dict(shipped.state_dict())
    x = pixels(64)[:24]
    with torch.inference_mode():
        answers, macs_B = again.eval().run(x)
        assert torch.equal(answers, shipped(x))
        normal = (x - 0.4) / 0.3
        policy = net.knobs_policy(knobs, ids=torch.arange(24), rates=rates)
        trained = net.eval()(normal, policy)
        same = (answers.argmax(1) == trained.logits_BC.argmax(1)).float().mean()
        assert same >= 0.9, "but for gates that were settled on other images"
        assert macs_B.mean() <= 1.001 * trained.macs_B.mean()
        one = again(x[3:4])
    torch.testing.assert_close(one, answers[3:4], rtol=1e-4, atol=1e-4)
    assert ship_baseline(net).run(x)[1].tolist() == [net.plain_macs + net.standing_macs] * 24


def test_a_shipped_network_is_rebuilt_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    net, candidate, knobs, rates = built("timm")
    monkeypatch.delattr("timm.models._builder.load_pretrained")
    started_from_published = asdict(candidate.config) | {"pretrained": True}
    assert rebuild("timm", started_from_published, TASK, ship(net, knobs, rates).description())


def answers_at_other_thresholds(shipped: DeployedNet, session: Any, images: Tensor) -> bool:
    """Asserts that they are those of torch; returns whether what is computed changes with them."""
    found = []
    count = len(shipped.thresholds)
    for others in ([0.3] * count, [0.001] * count, [0.999] * count):
        with torch.inference_mode():
            logits, macs_B = shipped.run(images, others)
        given = {"pixels": images.numpy(), "thresholds": np.array(others)}
        theirs, spent = session.run(["logits", "macs"], given)
        assert np.abs(logits.numpy() - theirs).max() < 1e-3 * max(1.0, float(logits.abs().max()))
        np.testing.assert_allclose(spent, macs_B.numpy(), rtol=1e-6)
        found.append(spent.sum())
    return len(set(found)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_onnxruntime_gives_the_same_logits_and_macs_for_any_batch(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    import onnxruntime

    net, _, knobs, rates = built(name)
    shipped = ship(net, knobs, rates)
    with caplog.at_level("DEBUG", logger="dynafront"):
        model = onnx_model(shipped, pixels(2))
        # the exporter writes call stacks, with the folders of the machine
        assert str(Path(torch.__file__).parent).encode() not in model.SerializeToString()
    assert "takes four times as long" not in caplog.text, "an export in seconds, not minutes"
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for count in (1, 9):
        with torch.inference_mode():
            logits, macs_B = shipped.run(pixels(count))
        ours = logits.numpy()
        theirs, spent = session.run(["logits", "macs"], {"pixels": pixels(count).numpy()})
        assert np.abs(ours - theirs).max() < 1e-3 * max(1.0, np.abs(ours).max())
        np.testing.assert_allclose(spent, macs_B.expand(count).numpy(), rtol=1e-6)
        if shipped.thresholds:
            changes = answers_at_other_thresholds(shipped, session, pixels(count))
            assert changes or count == 1 or name in SURE
    skips = any(node.op_type == "If" for node in model.graph.node)
    assert skips == (name in SKIPPING), "what no image needs is not computed"


def test_what_inference_never_runs_is_not_shipped() -> None:
    net, _, _, rates = built("skip_vit")
    whole = sum(p.numel() for p in net.parameters())
    closed = {**rates, "layer1": (0.0,)}
    shipped = ship(net, Knobs(prune=0.0), closed)
    layer = sum(p.numel() for p in net.get_submodule("layers.1").parameters())
    oracle = sum(p.numel() for p in net.get_submodule("oracles.1").parameters())
    heads = sum(p.numel() for p in net.get_submodule("exit_heads").parameters())
    left = sum(p.numel() for p in shipped.parameters())
    assert left <= whole - layer - oracle - heads


@pytest.mark.parametrize(
    "knobs", [Knobs(policy="stochastic"), Knobs(order="arbitrary")], ids=["stochastic", "order"]
)
def test_settings_that_draw_at_random_are_refused(knobs: Knobs) -> None:
    net, _, _, rates = built("shuffled_vit")
    with pytest.raises(ValueError, match="draws at random and cannot be exported"):
        settled_gates(net, knobs, rates)


@pytest.mark.parametrize("granularity", ["layer", "channel", "joint"])
def test_gates_that_no_image_matters_to_answer_at_the_thresholds_of_all_points(
    granularity: str,
) -> None:
    values = {"backbone": "resnet8", "gate": "independent", "granularity": granularity}
    task = Task(channels=1, height=8, width=8, classes=10)
    net = scrambled(Candidate.of(family("gated_resnet"), values, 2).build(task, 0)).float().eval()
    taus = 0.3, 0.7
    points = [Knobs(tau=tau) for tau in taus]
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    rates = {gate.name: (0.5,) * gate.units for gate in net.gates}
    both = ship(net, points[0], rates, [(points[1], rates)])
    for tau, knobs in zip(taus, points, strict=True):
        alone = ship(net, knobs, rates)
        logits_BC, macs_B = both.run(pixels, [tau] * len(both.thresholds))
        wanted_BC, wanted_B = alone.run(pixels, list(alone.thresholds.values()))
        torch.testing.assert_close(logits_BC, wanted_BC, rtol=1e-4, atol=1e-4)
        assert macs_B.tolist() == pytest.approx(wanted_B.tolist())
