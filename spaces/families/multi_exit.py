"""Family `multi_exit`: baselines in sections, with a classifier that can answer behind each of them.

Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable Neural Networks Framework Towards Compact and Efficient Models",
NeurIPS, 2019: exits with attention learn from the deepest classifier, and an image leaves at the first exit that is
sure of it. Differs: exits of other kinds are on offer; the default attention is depthwise, for three of the published
ones cost nearly as much as a ResNet-50 itself; and the filters of heads shrink with the network's width.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from spaces.backbones.sections import SectionedConfig, SectionedNet
from spaces.contract.compute import linear_macs
from spaces.contract.exit_places import Place
from spaces.contract.family import Family
from spaces.contract.forward_pass import Walk
from spaces.contract.net import Objective, Output, Plan
from spaces.contract.policies import AlwaysOn, Policy
from spaces.contract.recipe import Recipe
from spaces.contract.space import choice, one_of
from spaces.contract.task import Task
from spaces.exits.exit_config import CONV_EXITS, EXIT_NUMBERS, ExitConfig
from spaces.exits.exit_objective import ExitObjective
from spaces.exits.frozen_trunk import (
    CLASSIFIER,
    FrozenTrunkNet,
    Read,
    TrunkConfig,
)

PAPER_COSTS = (
    0.32,
    0.53,
    0.76,
    1.00,
    1.07,
)  # of ResNet-18: three exits, the deepest head, the ensemble


@dataclass(frozen=True, kw_only=True)
class MultiExitConfig(ExitConfig, TrunkConfig, SectionedConfig):
    """A multi-exit network; `gated=False` is the baseline of the same size."""

    exits: str = choice(
        *CONV_EXITS,
        default="scan",
        accepts=one_of("linear"),
        doc="side branches that answer early",
    )
    gated: bool = True

    @property
    def head_side(self) -> int:
        return 7 if self.stem == "imagenet" else super().head_side

    @property
    def head_filters(self) -> int:
        return self.scaled(super().head_filters)


class MultiExitNet(SectionedNet, FrozenTrunkNet):
    """A baseline with an exit behind each section but the last.

    Parameters other than `exit_*` carry the names of the baseline.
    """

    def __init__(self, config: MultiExitConfig, task: Task) -> None:
        super().__init__(config, task)
        self.config, self.trunk_config = config, config
        self.exit_places = self.places[:-1]
        if config.truncated is not None:
            self._truncate(self.exit_places[config.truncated])
        self.plain_macs = self.total_macs()
        self.head_macs = linear_macs(self.fc)
        self.add_exits(config, self.exit_places, self.fc.in_features, on=config.gated)
        if config.frozen:
            self.freeze(self.fc.in_features)

    def paper_cost(self, shares: Sequence[float]) -> float | None:
        if self.config.backbone != "resnet18" or self.exit_count != len(PAPER_COSTS) - 2:
            return None
        return paper_cost([*shares, *[0.0] * (len(PAPER_COSTS) - len(shares))])

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
        if self.frozen and images.ndim == 2:
            return self.answers(images, policy)
        walk = Walk(images, policy or AlwaysOn(), compact=compact, gates=self.gates)
        walk.pay(self.stem_macs)
        walk.mark("stem", self.stem, images, macs=self.stem_macs)
        u = self.stem(images)
        for index, section in enumerate(self.sections):
            walk.pay(self.section_macs[index])
            walk.mark("section", section, u, macs=self.section_macs[index])
            u = self.visit(index, section(u), walk)
            if walk.empty:
                break
        return self.finish(u, walk)

    def behind_unit(self, unit: int) -> list[str]:
        return [*(f"sections.{i}" for i in range(unit + 1, len(self.sections))), "fc"]

    def head(self, u: Tensor) -> Tensor:
        return self.answer(self.vector(u)) if self.frozen else super().head(u)

    @property
    def classifiers(self) -> tuple[str, ...]:
        return ("fc", "head_norm") if self.frozen else ()

    def plain_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.config.truncated is None:
            return super().plain_state(state)
        own = self.state_dict().keys()
        return {
            name: value for name, value in state.items() if name in own - {"fc.weight", "fc.bias"}
        }

    def classifier(self) -> nn.Linear:
        return self.fc

    def trunk(self) -> list[nn.Module]:
        return [self.stem, self.sections]

    def trunk_identity(self) -> str:
        large = " imagenet" if self.config.stem == "imagenet" else ""
        return f"multi_exit {self.config.backbone} {self.config.width}{large}"

    def place_module(self, place: Place) -> nn.Module:
        return self.sections[place.unit]

    def trunk_names(self, read: Read) -> list[str]:
        last = len(self.sections) - 1 if read.name == CLASSIFIER else read.place.unit
        parts = ("stem.", *(f"sections.{index}." for index in range(last + 1)))
        return [name for name in self.state_dict() if name.startswith(parts)]

    def unit_macs(self) -> list[int]:
        first, *others = self.section_macs
        return [self.stem_macs + first, *others, 0]

    def _truncate(self, place: Place) -> None:
        """End behind the place, with a classifier of its own there."""
        count = place.unit + 1
        self.sections = self.sections[:count]
        self.section_macs = self.section_macs[:count]
        self.exit_places = self.exit_places[:count]
        self.fc = nn.Linear(place.channels, self.task.classes)


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
    baseline_dimensions=("stem", "trunk", "feature_views"),
    smaller_sizes={"width": (0.125, 0.25)},
    size_words={"backbone": "{}", "width": "x{}"},
    traits=("exits", "attention"),
    numbers=EXIT_NUMBERS,
)
