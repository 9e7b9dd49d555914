"""Trained networks joined to one module that is shipped: each member runs for the images that come to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from spaces.contract.cascades import CascadeRule
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy import generic
from spaces.deploy.cascade import DeployedCascade, deploy
from spaces.deploy.resized import resized
from spaces.deploy.ship import onnx_model

ALL = Knobs(policy="always_on")
SIDES = (8, 12, 16)


def net(side: int, **values: object) -> DynamicNet:
    own = family("gated_resnet")
    task = Task(
        channels=1, height=side, width=side, classes=5, mean=(0.2 + side / 100,), std=(0.3,)
    )
    torch.manual_seed(side)
    made = own.build(own.config(backbone="resnet8", width=0.5, **values), task).eval()
    for parameter in made.parameters():
        parameter.data.mul_(1.4)  # so that answers differ
    return made


def cascade(rule: str, *, committee: bool, exits: bool = False) -> tuple[DeployedCascade, Tensor]:
    """Three networks for three sizes, thresholds that halve the images at each, and images."""
    nets = [net(8), net(12, exits="linear" if exits else "none"), net(16)]
    middle = ALL
    if exits:
        places = nets[1].exit_count
        middle = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(0.3,) * places)
    knobs = (ALL, middle, ALL)
    rates = [{gate.name: (1.0,) * gate.units for gate in one.gates} for one in nets]
    pixels = torch.rand(40, 1, 16, 16)
    never = CascadeRule(rule=rule, thresholds=(2.0, 2.0), committee=committee)
    made = deploy(nets, knobs, rates, never)
    with torch.inference_mode():
        first, second = (
            one.run(resized(pixels, side, side))[0].softmax(1)
            for one, side in zip(made.members[:2], SIDES, strict=False)
        )
        thresholds = (
            float(never.confidence(first).median()) + 1e-5,
            float(never.confidence(never.answer(1, first, second)).median()) + 1e-5,
        )
    made.rule = CascadeRule(rule=rule, thresholds=thresholds, committee=committee)
    return made, pixels


@pytest.mark.parametrize("rule", ["maxprob", "margin"])
@pytest.mark.parametrize("committee", [False, True])
def test_images_are_answered_as_if_each_came_alone(rule: str, committee: bool) -> None:
    made, pixels = cascade(rule, committee=committee)
    with torch.inference_mode():
        logits, macs = made.run(pixels)
        alone = [made.run(one[None]) for one in pixels]
        everything, chosen = made.masked(pixels)
    assert len(macs.unique()) == 3
    torch.testing.assert_close(torch.cat([one for one, _ in alone]), logits)
    assert torch.equal(torch.cat([one for _, one in alone]), macs)
    torch.testing.assert_close(everything, logits)
    assert torch.equal(chosen, macs)
    assert bool(torch.isfinite(logits).all())


def test_a_member_runs_for_the_images_that_come_to_it_alone() -> None:
    made, pixels = cascade("maxprob", committee=False)
    seen: list[tuple[int, ...]] = []
    for member in made.members:
        member.net.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    with torch.inference_mode():
        made.run(pixels)
    assert [shape[2] for shape in seen] == list(SIDES)
    assert seen[0][0] == 40 > seen[1][0] > seen[2][0] > 0


def test_no_later_member_runs_where_the_first_is_sure_of_all() -> None:
    made, pixels = cascade("maxprob", committee=False)
    made.rule = CascadeRule(rule="maxprob", thresholds=(-1.0, -1.0), committee=False)
    own = made.members[0].run(resized(pixels, 8, 8))
    logits, macs = made.run(pixels)
    torch.testing.assert_close(logits, own[0].log_softmax(1))
    assert torch.equal(macs, own[1].double().expand(40))


def test_a_cascade_has_a_threshold_for_each_member_but_the_last() -> None:
    rule = CascadeRule(rule="maxprob", thresholds=(0.5,), committee=False)
    with pytest.raises(ValueError, match="1 members with 1 thresholds; each but the last has one"):
        DeployedCascade([generic.deploy(net(8), [(ALL, {})])], rule)


@pytest.mark.slow
def test_onnx_has_later_members_behind_an_if_and_answers_at_any_batch() -> None:
    import onnxruntime

    made, pixels = cascade("margin", committee=True, exits=True)
    model = onnx_model(made, pixels[:2])
    outside = [node.op_type for node in model.graph.node]
    assert "If" in outside
    # what runs always is the first network
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in made.members[0].modules())
    assert outside.count("Conv") == convolutions
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for some in (pixels, pixels[:1], pixels[3:10]):
        logits, macs = session.run(["logits", "macs"], {"pixels": some.numpy()})
        with torch.inference_mode():
            ours, cost = made.run(some)
        torch.testing.assert_close(torch.from_numpy(logits), ours, atol=1e-4, rtol=1e-4)
        assert macs.tolist() == cost.tolist()
    # thresholds come with the call: here no image goes on
    none = {"pixels": pixels.numpy(), "thresholds": np.array([-1.0, -1.0])}
    logits, macs = session.run(["logits", "macs"], none)
    with torch.inference_mode():
        ours, cost = made.run(pixels, [-1.0, -1.0])
    torch.testing.assert_close(torch.from_numpy(logits), ours, atol=1e-4, rtol=1e-4)
    assert set(macs.tolist()) == set(cost.tolist()) == {float(cost.min())}
