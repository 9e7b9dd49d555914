"""Units of networks: all families mark them, alike in equal networks, and nobody pays for what is not marked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spaces.contract.net import DynamicNet, Output
from spaces.contract.policies import AlwaysOn, Policy
from spaces.contract.task import Task
from spaces.contract.units import WHOLE, Ran, Unit, units_of
from spaces.deploy.unit_program import unit_program
from tests.spaces.families.cases import CASES, Case

ONE_OF_EACH = list({case.name.split("-")[0].split("[")[0]: case for case in CASES}.values())


def _always(unit: Unit) -> bool:
    """Whether the unit runs in the network with every gate open for good and no exit."""
    opened = unit.guard is None or (unit.guard.open and unit.guard.settled is not False)
    return opened and not unit.asks and not unit.leaving


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_units_run_alone_and_hold_the_compute_of_the_baseline(case: Case) -> None:
    net = case.net().eval()
    units = units_of(net)
    with torch.no_grad():
        for unit in units:
            unit.run(*unit.inputs)
    assert {"pixels", "head"} <= {unit.kind for unit in units}
    assert sum(unit.macs for unit in units if _always(unit)) == net.plain_macs


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_equal_units_have_equal_keys_whatever_their_weights_are(case: Case) -> None:
    keys = [unit.key for unit in units_of(case.net())]
    net = case.net()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    assert [unit.key for unit in units_of(net)] == keys
    assert [unit.key for unit in units_of(net, batch=2)] != keys


class _Unmarked(DynamicNet):
    def __init__(self) -> None:
        super().__init__()
        self.task, self.plain_macs = Task(channels=1, height=4, width=4, classes=3), 48
        self.fc = torch.nn.Linear(16, 3)

    def forward(
        self, images: Tensor, policy: Policy | None = None, *, compact: bool = False
    ) -> Output:
        return Output(self.fc(images.flatten(1)), (), torch.full((len(images),), 48.0))


def test_a_family_that_marks_nothing_is_one_unit() -> None:
    (unit,) = units_of(_Unmarked())
    assert unit.kind == WHOLE
    assert unit.run(*unit.inputs).shape == (1, 3)
    assert unit.words == "network 1x4x4"


def test_what_images_ran_is_read_off_their_decisions_and_exits() -> None:
    net = next(case for case in CASES if case.net().exit_count and case.net().gates).net().eval()
    task = net.task
    images = torch.randn(4, task.channels, task.height, task.width)
    with torch.no_grad():
        ran = Ran.of(net(images, AlwaysOn()))
    twice = Ran.joined([ran, ran])
    assert twice.images == 8
    assert all(opened.all() and len(opened) == 8 for opened in twice.opened.values())


def test_a_unit_is_a_program_of_onnx() -> None:
    import onnxruntime

    case = next(case for case in CASES if case.name.startswith("gated_resnet"))
    unit = next(u for u in units_of(case.net()) if u.kind == "block")
    session = onnxruntime.InferenceSession(unit_program(unit).SerializeToString())
    given = [torch.randn(one.shape) for one in unit.inputs]
    names = [one.name for one in session.get_inputs()]
    answers = session.run(None, {n: g.numpy() for n, g in zip(names, given, strict=True)})
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(answers[0]), unit.run(*given), atol=1e-4, rtol=1e-4
        )
