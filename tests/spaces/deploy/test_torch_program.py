"""Networks as programs of torch.export: the same answers at any batch size, and what is skipped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from torch import Tensor, nn

from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy.ship import DeployedNet, ship, ship_baseline
from spaces.deploy.thresholds import is_exit
from spaces.deploy.torch_branches import sink
from spaces.deploy.torch_program import torch_program
from tests.spaces.conftest import scrambled

SIDE = 16
TASK = Task(channels=3, height=SIDE, width=SIDE, classes=5, mean=(0.5,) * 3, std=(0.25,) * 3)
EXITS = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(0.5,) * 3)
NETS: dict[str, tuple[str, dict[str, Any], Knobs]] = {
    "compact ResNet": ("gated_resnet", {"backbone": "resnet8", "forced_open": "none"}, Knobs()),
    "gates of filters": (
        "gated_resnet",
        {"backbone": "resnet8", "forced_open": "none", "granularity": "both"},
        Knobs(),
    ),
    "exits": ("multi_exit", {"backbone": "resnet18", "width": 0.25}, EXITS),
    "inverted residuals": ("gated_mobilenet", {"width": 0.25}, Knobs()),
    "layers of a ViT": ("skip_vit", {"layers": 3, "dim": 64, "head_dim": 32, "patch": 4}, Knobs()),
}
# products that are not run where as little as possible is; single filters are never skipped
SKIPPED = {
    "compact ResNet": 6,
    "gates of filters": 0,
    "exits": 6,
    "inverted residuals": 30,
    "layers of a ViT": 6,
}


def pixels(count: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def built(name: str) -> tuple[Any, DeployedNet]:
    own, values, knobs = NETS[name]
    net = scrambled(Candidate.of(family(own), values, 2).build(TASK, 0)).float().eval()
    return net, ship(net, knobs, {gate.name: (0.5,) * gate.units for gate in net.gates})


def thresholds(net: DeployedNet, *, run: bool) -> list[float]:
    """At which every gate opens and no image leaves, or the other way round."""
    return [float(is_exit(name) == run) * 3 - 1 for name in net.thresholds]


def products(run: Callable[[], object]) -> int:
    """How many convolutions and matrix products are run."""
    with torch.no_grad(), torch.profiler.profile() as seen:
        run()
    names = ("aten::convolution", "aten::addmm", "aten::mm", "aten::bmm")
    return sum(event.count for event in seen.key_averages() if event.key in names)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_program_answers_as_the_network_and_skips_what_no_image_needs(
    name: str, tmp_path: Path
) -> None:
    _, net = built(name)
    file = tmp_path / "model.pt2"
    torch.export.save(torch_program(net, pixels(2)), file)
    program = torch.export.load(file).module()
    own = list(net.thresholds.values())
    for values in (own, thresholds(net, run=True), thresholds(net, run=False)):
        given = torch.tensor(values, dtype=torch.float64)
        for images in (pixels(6), pixels(1)):
            with torch.no_grad():
                logits_BC, macs_B = program(images, given)
                wanted_BC, wanted_B = net.run(images, values)
            assert macs_B.tolist() == wanted_B.tolist()
            torch.testing.assert_close(logits_BC, wanted_BC, rtol=1e-4, atol=1e-4)
    some, whole = (
        products(partial(program, pixels(1), torch.tensor(thresholds(net, run=run)).double()))
        for run in (False, True)
    )
    assert whole - some >= SKIPPED[name]
    inside = b"".join(ZipFile(file).read(one) for one in ZipFile(file).namelist())
    assert str(Path(__file__).parents[3]).encode() not in inside, "a folder of this machine"


@pytest.mark.slow
def test_branches_are_given_tensors_alone_and_none_twice_so_that_compilers_take_them() -> None:
    program = torch_program(built("compact ResNet")[1], pixels(2))
    conditional = [n for n in program.graph.nodes if n.target is torch.ops.higher_order.cond]
    assert conditional
    for node in conditional:
        assert all(isinstance(one.meta["val"], Tensor) for one in node.args[3])
    program.run_decompositions()  # refuses operands that share memory


@pytest.mark.slow
def test_a_static_network_takes_no_thresholds() -> None:
    net, _ = built("compact ResNet")
    static = ship_baseline(net)
    program = torch_program(static, pixels(2)).module()
    with torch.no_grad():
        torch.testing.assert_close(program(pixels(3))[0], static(pixels(3)))


class Net(nn.Module):
    """A choice within a choice, after which the first one's condition chooses once more."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(256, 256), nn.Linear(256, 256)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.one(x)
        asked = x[:, 0] > 0
        found = torch.where(asked[:, None], torch.where(u[:, :1] > 0, self.two(u), u), x)
        return found, torch.where(asked, u.sum(1), x[:, 1])


@pytest.mark.slow
def test_choices_within_choices_become_branches_within_branches() -> None:
    net = Net().eval()
    x = torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(net, (x,), dynamic_shapes=sizes)
    assert sink(program.graph_module) == 2
    module = program.module(check_guards=False)
    for batch in (x, x.abs(), -x.abs(), x[:1]):
        with torch.no_grad():
            for ours, theirs in zip(module(batch), net(batch), strict=True):
                torch.testing.assert_close(ours, theirs)
    outside = [node for node in program.graph.nodes if "linear" in str(node.target)]
    assert outside == []
