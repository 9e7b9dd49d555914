"""How a row of gated blocks runs, whatever its blocks are: shown on a network of numbers, and on every family.

Shapes: B images, C channels, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spaces.contract.family import Candidate
from spaces.contract.net import Plan
from spaces.contract.policies import AlwaysOn, Policy, Sampled, ScaledOn, Threshold
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.gates.closable import Closable
from spaces.gates.gated_blocks import GatedConfig
from spaces.gates.gated_chain import GatedChain, weighed
from tests.spaces.gated import SMALL, Told

TWO_PIXELS = Task(channels=2, height=1, width=1, classes=2)


class Times10(Closable):
    """Adds 10 times its input to it, channel by channel; writes down how many images it computes."""

    inputs = 2
    channels: Mapping[str, int] = {"inner": 2}
    shortcut_macs = 1000

    def __init__(self, computed: list[int]) -> None:
        self.computed = computed

    def residual(self, u: Tensor, *masks: Tensor | None) -> Tensor:
        self.computed.append(len(u))
        (inner,) = masks or (None,)
        return 10 * u if inner is None else 10 * u * inner[:, :, None, None]

    def closed(self, u: Tensor) -> Tensor:
        return u

    def joined(
        self, u: Tensor, residual: Callable[[], Tensor], z: Tensor | None, rows: Tensor | None
    ) -> Tensor:
        run = weighed(residual(), z)
        return u + run if rows is None else u.index_add(0, rows, run)

    def macs(self, open_channels: Mapping[str, Tensor | float]) -> Tensor | float:
        return 4 * open_channels["inner"]

    def guarded_macs(self) -> dict[str, int]:
        return {"layer": 8, "inner": 8}


class Numbers(GatedChain):
    """Two blocks between nothing and a mean: the logits are what is left of an image's two numbers."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.task = TWO_PIXELS
        self.computed: list[int] = []
        one = nn.Linear(2, 2, bias=False)
        nn.init.eye_(one.weight)
        self.fc = one
        self.add_gates_and_exits(GatedConfig(channel_group=1, gate_bn=False, **config), [], self.fc)

    def chain(self) -> list[Times10]:
        return [Times10(self.computed), Times10(self.computed)]

    def first_maps(self, images: Tensor) -> Tensor:
        return images

    def first_macs(self) -> int:
        return 0

    def total_macs(self) -> int:
        return 2 * (1000 + 8) + 4

    def head(self, u: Tensor) -> Tensor:
        return self.fc(u.mean((2, 3)))


def numbers(**config: Any) -> Numbers:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Numbers(**config).double().eval()


IMAGES = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)[:, :, None, None]
EACH = {  # three images: both blocks, the second block's first channel, nothing
    "block0.layer": torch.tensor([[1.0], [0.0], [0.0]]),
    "block0.inner": torch.ones(3, 2),
    "block1.layer": torch.tensor([[1.0], [1.0], [0.0]]),
    "block1.inner": torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]),
}
LAYER_MACS = 2 * 16 + 16  # trunk and one unit
CHANNEL_MACS = 2 * 16  # two units


@pytest.mark.parametrize("compact", [False, True])
def test_every_image_gets_and_pays_what_is_open_for_it(compact: bool) -> None:
    net = numbers(granularity="joint")
    output = net(IMAGES, Told(values=EACH), compact=compact)
    assert output.logits_BC.tolist() == [[121.0, 242.0], [33.0, 4.0], [5.0, 6.0]]
    closed = 2 * (1000 + LAYER_MACS) + 4
    both, one_channel = 2 * (8 + CHANNEL_MACS), 4 + CHANNEL_MACS
    assert output.macs_B.tolist() == [closed + both, closed + one_channel, closed]
    assert net.computed == ([1, 2] if compact else [3, 3])


def test_compact_decisions_about_channels_of_a_closed_block_read_0() -> None:
    net = numbers(granularity="joint")
    found = {d.gate.name: d.z_BU for d in net(IMAGES, Told(values=EACH), compact=True).decisions}
    assert found["block0.inner"].tolist() == [[1, 1], [0, 0], [0, 0]]
    assert found["block1.inner"].tolist() == [[1, 1], [1, 0], [0, 0]]
    nothing = {name: torch.zeros_like(z) for name, z in EACH.items()}
    net.computed.clear()
    closed = net(IMAGES, Told(values=nothing), compact=True)
    assert closed.logits_BC.tolist() == IMAGES[:, :, 0, 0].tolist()
    assert all(not d.open_BU.any() for d in closed.decisions)
    assert all(d.asked for d in closed.decisions), (
        "a closed block was reached, unlike one behind an exit"
    )
    assert net.computed == []


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(
    ("policy", "factor", "macs"),
    [
        (AlwaysOn(), 11.0**2, 2020),
        (Threshold(fixed={"block0.layer": (0.0,), "block1.layer": (1.0,)}), 11.0, 2012),
        (ScaledOn(rates={"block0.layer": (0.5,), "block1.layer": (0.25,)}), 6 * 3.5, 2020),
    ],
    ids=["open", "one closed", "scaled"],
)
def test_settled_gates_are_not_asked_and_scale_what_they_guard(
    compact: bool, policy: Policy, factor: float, macs: int
) -> None:
    net = numbers()
    for module in net.gate_heads.modules():
        module.register_forward_hook(lambda *_: pytest.fail("a settled gate was evaluated"))
    output = net(IMAGES, policy, compact=compact)
    assert output.logits_BC.tolist() == (factor * IMAGES[:, :, 0, 0]).tolist()
    assert output.macs_B.tolist() == [macs] * 3


def test_gates_stand_on_what_a_block_says_it_has() -> None:
    found = [(g.name, g.units, g.macs) for g in numbers(granularity="joint").gates]
    block0 = [("block0.layer", 1, 8.0), ("block0.inner", 2, 4.0)]
    block1 = [("block1.layer", 1, 8.0), ("block1.inner", 2, 4.0)]
    assert found == block0 + block1
    assert [g.name for g in numbers(granularity="joint", forced_open="first").gates] == [
        "block1.layer",
        "block1.inner",
    ]
    assert numbers(gated=False).gates == ()


def test_a_block_without_gates_runs_for_all_and_nothing_reads_its_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        Times10, "source", lambda *_: pytest.fail("maps were read for gates that are not there")
    )
    net = numbers(gated=False)
    for compact in (False, True):
        output = net(IMAGES, Threshold(), compact=compact)
        assert output.logits_BC.tolist() == (121 * IMAGES[:, :, 0, 0]).tolist()
        assert output.macs_B.tolist() == [net.plain_macs] * 3 == [2020] * 3


def test_inner_filters_are_gated_in_groups_of_a_size_and_outer_ones_in_so_many_groups() -> None:
    values = {
        "granularity": "channel",
        "channel_where": "both",
        "channel_group": 2,
        "outer_groups": 4,
    }
    net = Candidate.of(
        family("gated_resnet"), {"backbone": "resnet8", "width": 0.75, **values}, 4
    ).build(SMALL, 0)
    filters = (12, 24, 48)
    assert [g.units for g in net.gates if g.kind == "inner"] == [n // 2 for n in filters]
    assert [g.units for g in net.gates if g.kind == "outer"] == [4, 4, 4]


COMPILED: dict[str, tuple[str, dict[str, Any]]] = {
    "layer": ("gated_resnet", {"backbone": "resnet8", "width": 0.25}),
    "joint": (
        "gated_resnet",
        {"backbone": "resnet8", "width": 0.25, "granularity": "joint", "channel_where": "both"},
    ),
    "lstm": ("gated_resnet", {"backbone": "resnet8", "width": 0.25, "gate": "lstm"}),
    "policy_net": ("gated_resnet", {"backbone": "resnet8", "width": 0.25, "gate": "policy_net"}),
    "mobilenet": ("gated_mobilenet", {"width": 0.25, "depth": 0.5, "granularity": "joint"}),
    "densenet": ("gated_densenet", {"depth": 22, "growth": 4, "exits": "none"}),
    "timm": ("timm", {"backbone": "test_resnet", "dynamics": "both"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_a_training_step_compiles_to_one_graph(name: str) -> None:
    of, values = COMPILED[name]
    net = Candidate.of(family(of), values, 4).build(SMALL, 0)
    policy = net.train().objective(Plan(epochs=4, steps=3)).policy(0, torch.arange(4))
    assert isinstance(policy, Sampled)
    _ = policy.noise_BT
    images = torch.randn(4, 3, 16, 16)
    whole = torch.compile(net, fullgraph=True, backend="eager")(images, policy)
    torch.testing.assert_close(whole.logits_BC, net(images, policy).logits_BC)
