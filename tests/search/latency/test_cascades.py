"""Latency of cascades: members that an image comes to, a choice behind each but the last, and resizing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from search.latency.cascades import cascade_ms, member_ms, resize_unit
from search.latency.predict import NetLatency
from search.latency.table import MissingUnitsError
from search.schedule.timed_shapes import untrained
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.contract.units import Ran, units_of
from spaces.deploy.unit_program import unit_program
from tests.search.latency.tables import table_of

OPEN = Knobs(policy="always_on")
SMALL, LARGE = (Task(channels=1, height=side, width=side, classes=3) for side in (8, 16))


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_an_image_pays_for_one_call_and_for_each_member_that_it_comes_to() -> None:
    members = tensor(2, 2, 2), tensor(10, 20, 30), tensor(100, 200, 300)
    found = cascade_ms(members, torch.tensor([0, 1, 2]), table_of([]))
    # a call is 1 ms, a choice 0.25 ms
    assert found.tolist() == [1 + 2.25, 1 + 2.25 + 20.25, 1 + 2.25 + 30.25 + 300]


def test_in_a_batch_all_pay_for_a_member_that_one_comes_to() -> None:
    members = tensor(2, 2, 2, 2), tensor(10, 10, 10, 10)
    found = cascade_ms(members, torch.tensor([0, 1, 0, 0]), table_of([], batch=2))
    assert found.tolist() == [0.5 + 2.125 + 10] * 2 + [0.5 + 2.125] * 2


def test_a_member_of_smaller_images_pays_for_making_them() -> None:
    net = untrained(Candidate.of(family("gated_resnet"), {"backbone": "resnet8"}, 1), SMALL)
    units, ran = units_of(net), Ran(2)
    own = member_ms(NetLatency(net, table_of(units)), OPEN, {}, ran, SMALL)
    resize = resize_unit(LARGE, SMALL)
    table = table_of([*units, replace(resize, macs=7000.0)])
    assert (member_ms(NetLatency(net, table), OPEN, {}, ran, LARGE) - own).tolist() == [7, 7]
    with pytest.raises(MissingUnitsError, match="resize 1x16x16"):
        member_ms(NetLatency(net, table_of(units)), OPEN, {}, ran, LARGE)


def test_resizing_is_written_as_onnx_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    program = unit_program(resize_unit(LARGE, SMALL))
    assert "Resize" in {node.op_type for node in program.graph.node}
    assert capfd.readouterr() == ("", "")
