"""Points at whose exit all images leave are shipped without what lies behind it, and counted so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy import generic
from spaces.deploy.generic import needed_parameters

TASK = Task(channels=3, height=32, width=32, classes=10)
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "sections": ("multi_exit", {"width": 0.125, "exits": "scan"}),
    "blocks": ("gated_resnet", {"backbone": "resnet8", "width": 0.25, "exits": "light"}),
    "layers": ("skip_vit", {"layers": 4, "dim": 32, "exits": "cls", "oracle": "dt"}),
    "timm": ("timm", {"backbone": "resnet10t", "dynamics": "exits"}),
}


def built(name: str) -> DynamicNet:
    of, values = NETS[name]
    torch.manual_seed(0)
    return Candidate.of(family(of), values, 1).build(TASK, 0).eval()


def leaving(exits: int, end: int) -> Knobs:
    """Thresholds at which nobody stays behind exit `end`."""
    levels = [0.99 if k < end else -1.0 if k == end else 0.5 for k in range(exits)]
    return Knobs(exit_rule="maxprob", exit_thresholds=tuple(levels))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_what_lies_behind_the_last_exit_in_use_is_cut_and_answers_stay(name: str) -> None:
    net, pixels = built(name), torch.rand(4, 3, 32, 32)
    rates = {gate.name: (0.5,) * gate.units for gate in net.gates}
    sizes = []
    for end in range(net.exit_count):
        knobs = leaving(net.exit_count, end)
        deeper = Knobs(exit_rule="maxprob", exit_thresholds=(0.9,) * net.exit_count)
        short = generic.deploy(net, [(knobs, rates)])
        whole = generic.deploy(net, [(knobs, rates), (deeper, rates)])
        logits, macs = short.run(pixels)
        for other, paid in (whole.run(pixels), short.masked(pixels), whole.masked(pixels)):
            torch.testing.assert_close(other, logits, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(paid.double(), macs)
        again = generic.rebuild(built(name), short.description())
        again.load_state_dict(short.state_dict())
        torch.testing.assert_close(again(pixels), logits)
        given = torch.full((len(short.thresholds),), 0.5)
        assert short.masked(pixels, given)[0].shape == (4, 10)
        assert short.dynamic == (end > 0 or bool(net.gates))
        sizes.append(sum(p.numel() for p in short.parameters()))
        assert sizes[-1] == needed_parameters(net, knobs, rates)
    assert sizes == sorted(sizes)
    assert sizes[0] < sum(p.numel() for p in net.parameters())
    if name in ("sections", "timm"):
        assert sizes[0] < 0.5 * sum(p.numel() for p in net.parameters())


def test_a_model_that_ends_at_an_exit_has_the_answers_of_all_exits_up_to_there() -> None:
    net, pixels = built("sections"), torch.rand(4, 3, 32, 32)
    whole = generic.deploy(net, [(Knobs(exit_rule="maxprob", exit_thresholds=(0.9,) * 3), {})])
    short = generic.deploy(net, [(leaving(3, 1), {})])
    logits, macs = short.every_exit(pixels)
    assert len(logits) == len(macs) == 2
    all_logits, all_macs = whole.every_exit(pixels)
    torch.testing.assert_close(logits, all_logits[:2])
    torch.testing.assert_close(macs, all_macs[:2])
