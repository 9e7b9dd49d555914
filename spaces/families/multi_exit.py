"""Family `multi_exit`: baselines in sections, with a classifier that can answer behind each of them.

Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable Neural Networks Framework Towards Compact and Efficient Models",
NeurIPS, 2019: exits with attention learn from the deepest classifier, and an image leaves at the first exit that is
sure of it. Differs: exits of other kinds are on offer; the default attention is depthwise, for three of the published
ones cost nearly as much as a ResNet-50 itself; and the filters of heads shrink with the network's width.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from spaces.backbones.sections import SectionedConfig, SectionedNet
from spaces.contract.compute import linear_macs
from spaces.contract.family import Family
from spaces.contract.forward_pass import Walk
from spaces.contract.net import Objective, Output, Plan
from spaces.contract.policies import AlwaysOn, Policy
from spaces.contract.recipe import Recipe
from spaces.contract.space import choice
from spaces.contract.task import Task
from spaces.exits.exit_heads import CONV_EXITS, ExitConfig
from spaces.exits.exit_objective import ExitObjective
from spaces.exits.exits import ExitNet

PAPER_COSTS = (
    0.32,
    0.53,
    0.76,
    1.00,
    1.07,
)  # of ResNet-18: three exits, the deepest head, the ensemble


@dataclass(frozen=True, kw_only=True)
class MultiExitConfig(ExitConfig, SectionedConfig):
    """A multi-exit network; `gated=False` is the baseline of the same size."""

    exits: str = choice(*CONV_EXITS, default="scan", doc="side branches that answer early")
    gated: bool = True

    @property
    def head_filters(self) -> int:
        return self.scaled(super().head_filters)


class MultiExitNet(SectionedNet, ExitNet):
    """A baseline with an exit behind each section but the last.

    Parameters other than `exit_*` carry the names of the baseline.
    """

    def __init__(self, config: MultiExitConfig, task: Task) -> None:
        super().__init__(config, task)
        self.config = config
        self.plain_macs = self.total_macs()
        self.head_macs = linear_macs(self.fc)
        self.add_exits(config, self.places[:-1], self.fc.in_features, on=config.gated)

    def paper_cost(self, shares: Sequence[float], fallback: str) -> float | None:
        if self.config.backbone != "resnet18" or len(shares) != len(PAPER_COSTS) - 1:
            return None
        *early, rest = shares
        return paper_cost([*early, 0.0, rest] if fallback == "ensemble" else [*early, rest, 0.0])

    def gate_parameters(self) -> list[nn.Parameter]:
        return self.exit_gate_parameters()

    def objective(self, plan: Plan) -> Objective:
        plain = Objective(self, plan)
        return ExitObjective(self, plan, self.config, plain) if self.exit_count else plain

    def forward(
        self, images: Tensor, policy: Policy | None = None, *, compact: bool = False
    ) -> Output:
        if compact and self.training:
            raise RuntimeError(
                "compact execution would change batch-norm statistics; call eval() first"
            )
        walk = Walk(images, policy or AlwaysOn(), compact=compact, gates=self.gates)
        walk.pay(self.stem_macs)
        u = self.stem(images)
        for index, section in enumerate(self.sections):
            walk.pay(self.section_macs[index])
            u = self.visit(index, section(u), walk)
            if walk.empty:
                break
        return self.finish(u, walk)


def paper_cost(share_by_exit: Sequence[float]) -> float:
    """Compute over that of the plain ResNet-18 as published for SCAN, to set beside published numbers only.

    `share_by_exit`: which share of the images each of the three exits, the deepest head and the ensemble answers.
    The published costs are constants and not those of the cascade that is run: an image is not charged for the exits
    that it passed. True costs are an output's `macs_B`. Raises ValueError for other than five shares that sum to 1.
    """
    shares = list(share_by_exit)
    if len(shares) != len(PAPER_COSTS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"share_by_exit: {shares} are not {len(PAPER_COSTS)} shares that sum to 1")
    return sum(share * cost for share, cost in zip(shares, PAPER_COSTS, strict=True))


FAMILY = Family(
    name="multi_exit",
    doc="ResNets, VGGs and wide ResNets that answer easy images behind an early section",
    config=MultiExitConfig,
    recipe=Recipe,
    build=MultiExitNet,
    size_dimensions=("backbone", "width"),
    smaller_sizes={"width": (0.125, 0.25)},
    size_words={"backbone": "{}", "width": "x{}"},
    traits=("exits", "attention"),
)
