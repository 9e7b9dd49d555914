"""Early exits: side branches that answer from a network's intermediate features, and how they are trained.

Attention, bottleneck classifiers and self-distillation follow Zhang, Tan, Song, Chen, Bao and Ma, "SCAN: A Scalable
Neural Networks Framework Towards Compact and Efficient Models", NeurIPS, 2019. The two-convolution head follows Huang,
Chen, Li, Wu, van der Maaten and Weinberger, "Multi-Scale Dense Networks for Resource Efficient Image Classification",
ICLR, 2018.
Exits that a gate decides follow Herrmann, Bowen and Zabih, "Deep networks with probabilistic gates", 2018.
Differs: the feature loss is a mean over the batch by default (the published sum stays available), maps of any size
work, and a gate's head is paid only by the images that leave there.

Shapes: B images, A of them still in, C classes, D features, K early exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces import sparsity
from spaces.compute import conv_macs, conv_output, linear_macs
from spaces.exit_rules import ExitRule
from spaces.net import DynamicNet, Objective, Output, Plan, WrappingObjective
from spaces.place import Place
from spaces.policies import AlwaysOn, Decision, Gate, Policy, Sampled, straight_through
from spaces.space import choice, flag, real
from spaces.walk import Walk

CONV_EXITS = ("scan", "msdnet", "light")
_ANY = (*CONV_EXITS, "cls")


@dataclass(frozen=True, kw_only=True)
class ExitConfig:
    """Which exits a network has, what decides them, and how they are taught."""

    exits: str = choice("none", *CONV_EXITS, default="none", searched=False, doc="side branches that answer early")
    exit_places: str = choice(
        "all", "early", "late", default="all", when={"exits": _ANY}, searched=False, doc="which ends of stages have one"
    )
    attention: str = choice(
        "full", "depthwise", "reduced", "none", default="depthwise", when={"exits": ("scan",)},
        doc="map that an exit multiplies its features with; full is published, and dear",
    )  # fmt: skip
    exit_decision: str = choice(
        "confidence", "gate", default="confidence", when={"exits": _ANY}, searched=False,
        doc="leave by the answer's confidence (thresholds are searched after training), or by a learned gate",
    )  # fmt: skip
    exit_gate: str = choice(
        "light", "conv", default="light", when={"exit_decision": ("gate",)}, searched=False,
        doc="pooled features and a hidden layer, or two convolutions as published, dearer than the network",
    )  # fmt: skip
    exit_target: float = real(
        0.0, 0.6, default=0.3, when={"exit_decision": ("gate",)}, doc="share of images that should leave at each exit"
    )
    exit_loss_weight: float = real(
        0.3, 30.0, default=1.0, log=True, when={"exit_decision": ("gate",)}, searched=False, doc="of that target"
    )
    shallow_weight: float = real(
        0.1, 0.3, default=0.2, when={"exit_decision": ("gate",)}, searched=False,
        doc="of each exit's own cross-entropy over all images",
    )  # fmt: skip
    alpha_kd: float = real(
        0.0, 0.9, default=0.5, when={"exits": _ANY, "exit_decision": ("confidence",)},
        doc="share of an exit's loss that is distillation from the teacher",
    )  # fmt: skip
    kd_temperature: float = real(
        1.0, 8.0, default=3.0, when={"exits": _ANY, "exit_decision": ("confidence",)}, searched=False,
        doc="of distillation",
    )  # fmt: skip
    teacher: str = choice(
        "deepest", "ensemble", default="deepest", when={"exits": _ANY, "exit_decision": ("confidence",)},
        searched=False, doc="whose answers exits learn",
    )  # fmt: skip
    feature_weight: float = real(
        1e-7, 1e-2, default=6.4e-5, log=True, when={"exits": ("scan",), "exit_decision": ("confidence",)},
        searched=False, doc="of the distance between an exit's features and the deepest ones (published sum: 5e-7)",
    )  # fmt: skip
    feature_form: str = choice(
        "batch_mean", "code_sum", default="batch_mean", when={"exits": ("scan",), "exit_decision": ("confidence",)},
        searched=False, doc="mean over images, or the published sum that grows with the batch",
    )  # fmt: skip
    detach_trunk: bool = flag(
        default=False, when={"exits": _ANY}, searched=False, doc="exits learn without changing the network before them"
    )

    @property
    def has_exits(self) -> bool:
        return self.exits != "none"

    @property
    def head_filters(self) -> int:
        """Filters of the heads' bottlenecks, at most; families with a width multiplier scale them."""
        return 128


class Attention(nn.Module):
    """A map in (0, 1) of the features' own shape: down by 2, up by 2, sigmoid."""

    def __init__(self, kind: str, place: Place) -> None:
        super().__init__()
        channels = place.channels
        inner = max(1, channels // 4) if kind == "reduced" else channels
        self.place, self.kind = place, kind
        if kind == "depthwise":
            self.down = nn.Sequential(
                nn.Conv2d(channels, channels, 3, 2, 1, groups=channels), nn.Conv2d(channels, channels, 1)
            )
            self.up: nn.ConvTranspose2d | None = None
        else:
            self.down = nn.Sequential(nn.Conv2d(channels, inner, 3, 2, 1))
            self.up = nn.ConvTranspose2d(inner, channels, 4, 2, 1)
        self.norm = nn.BatchNorm2d(inner)
        self.up_norm = nn.BatchNorm2d(channels)

    def forward(self, u: Tensor) -> Tensor:
        height, width = u.shape[2:]
        small = F.relu(self.norm(self.down(u)))
        if self.up is not None:
            large = self.up(small)[:, :, :height, :width]  # an odd size comes back one larger
        else:
            large = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
        return torch.sigmoid(self.up_norm(large))

    def macs(self) -> int:
        height, width = ((n - 1) // 2 + 1 for n in (self.place.height, self.place.width))
        total = sum(conv_macs(layer, height, width) for layer in self.down if isinstance(layer, nn.Conv2d))
        if self.up is not None:
            total += height * width * 16 * self.up.in_channels * self.up.out_channels
        return total


class ScanHead(nn.Module):
    """Attention, three bottleneck convolutions down to a 4x4 map (up to 7x7 from odd sizes), pooled, linear."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        self.attention = None if config.attention == "none" else Attention(config.attention, place)
        width = min(config.head_filters, features)
        steps = (max(1, place.height // 4), max(1, place.width // 4))
        self.reduce = nn.Conv2d(place.channels, width, 1)
        self.shrink = nn.Conv2d(width, width, steps, steps)
        self.expand = nn.Conv2d(width, features, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (width, width, features))
        self.fc = nn.Linear(features, classes)
        small = (conv_output(place.height, self.shrink), conv_output(place.width, self.shrink, 1))
        self.own_macs = (
            conv_macs(self.reduce, place.height, place.width)
            + conv_macs(self.shrink, *small)
            + conv_macs(self.expand, *small)
            + linear_macs(self.fc)
            + (self.attention.macs() if self.attention is not None else 0)
        )
        _kaiming(self)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        if self.attention is not None:
            u = u * self.attention(u)
        for conv, norm in zip((self.reduce, self.shrink, self.expand), self.norms, strict=True):
            u = F.relu(norm(conv(u)))
        feature = u.mean((2, 3))
        return self.fc(feature), feature


class MsdHead(nn.Module):
    """Two 3x3 convolutions with stride 2 and 128 filters, pooled, linear."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        width = min(config.head_filters, max(features, 16))
        self.convs = nn.ModuleList(
            [nn.Conv2d(place.channels, width, 3, 2, 1, bias=False), nn.Conv2d(width, width, 3, 2, 1, bias=False)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        self.fc = nn.Linear(width, classes)
        self.own_macs, size = linear_macs(self.fc), (place.height, place.width)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            size = (conv_output(size[0], conv), conv_output(size[1], conv))
            self.own_macs += conv_macs(conv, *size)
        _kaiming(self)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            u = F.relu(norm(conv(u)))
        feature = u.mean((2, 3))
        return self.fc(feature), feature


class LightHead(nn.Module):
    """Pooled features, linear: next to free."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(place.channels, classes)
        self.own_macs = linear_macs(self.fc)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        feature = u.mean((2, 3))
        return self.fc(feature), feature


class ClsHead(nn.Module):
    """For tokens (B, N, D): the class token, layer norm, linear."""

    def __init__(self, config: ExitConfig, place: Place, features: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(place.channels)
        self.fc = nn.Linear(place.channels, classes)
        self.own_macs = linear_macs(self.fc)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.norm(u[:, 0])
        return self.fc(feature), feature


HEADS = {"scan": ScanHead, "msdnet": MsdHead, "light": LightHead, "cls": ClsHead}


class ExitGate(nn.Module):
    """A logit for staying, from the features before an exit. Starts open: at first nearly everybody stays."""

    def __init__(self, kind: str, place: Place, tokens: bool) -> None:
        super().__init__()
        self.conv = kind == "conv" and not tokens
        self.tokens = tokens
        channels = place.channels
        if self.conv:
            self.convs = nn.ModuleList([nn.Conv2d(channels, 128, 3, 1, 1), nn.Conv2d(128, 128, 3, 1, 1)])
            self.norms = nn.ModuleList([nn.BatchNorm2d(128), nn.BatchNorm2d(128)])
            self.fc = nn.Linear(128, 1)
            area = (place.height, place.width)
            self.own_macs = 128 + sum(conv_macs(c, *area) for c in self.convs if isinstance(c, nn.Conv2d))
        else:
            self.hidden = nn.Linear(channels, 16)
            self.fc = nn.Linear(16, 1)
            self.own_macs = linear_macs(self.hidden) + linear_macs(self.fc)
        nn.init.normal_(self.fc.weight, std=0.001)
        nn.init.constant_(self.fc.bias, 1.0)

    def forward(self, u: Tensor) -> Tensor:
        """(A, 1) logits, at least float32."""
        if self.conv:
            for conv, norm in zip(self.convs, self.norms, strict=True):
                u = F.relu(norm(conv(u)))
            logit = self.fc(u.mean((2, 3)))
        else:
            logit = self.fc(F.relu(self.hidden(u[:, 0] if self.tokens else u.mean((2, 3)))))
        return logit.float() if logit.dtype in (torch.float16, torch.bfloat16) else logit


class ExitNet(DynamicNet):
    """A network with units in a row and exits behind some of them. Subclasses call `visit` and `finish`."""

    exit_config: ExitConfig
    head_macs: int  # of the network's own head

    def head(self, u: Tensor) -> Tensor:
        """Logits of the network's own head."""
        raise NotImplementedError

    def head_feature(self, u: Tensor) -> Tensor:
        """(B, D) what the network's own head reads."""
        return u.mean((2, 3))

    def add_exits(self, config: ExitConfig, places: Sequence[Place], features: int, *, on: bool = True) -> None:
        """Build heads and gates behind the chosen places; `features` is the width of the deepest features.

        Call after the network's gates are set. Raises ValueError when there is no place for an exit.
        """
        self.exit_config = config
        self.exit_heads = nn.ModuleList()
        self.exit_gates = nn.ModuleList()
        self._exit_at: dict[int, int] = {}
        self._exit_gate: tuple[Gate, ...] = ()
        if not config.has_exits or not on:
            return
        chosen = _chosen(config.exit_places, places)
        if not chosen:
            raise ValueError(f"exits: {config.exits} needs a network of two stages at least")
        gates, rest = [], self.plain_macs
        offset = sum(gate.units for gate in self.gates)
        for number, place in enumerate(chosen):
            self.exit_heads.append(HEADS[config.exits](config, place, features, self.task.classes))
            self._exit_at[place.unit] = number
            if config.exit_decision == "gate":
                self.exit_gates.append(ExitGate(config.exit_gate, place, config.exits == "cls"))
                name = f"exit{number}.stay"
                gates.append(Gate(name=name, kind="exit", block=place.unit, units=1, offset=offset + number, macs=rest))
        self.exit_count = len(chosen)
        self._exit_gate = tuple(gates)
        self.gates = (*self.gates, *gates)

    def unneeded(self, policy: Policy) -> list[str]:
        unused = [*super().unneeded(policy)]
        gates = self._exit_gate
        passed = [policy.settled(g) is not None and policy.settled(g) != (0.0,) for g in gates]
        if not gates:
            passed = [policy.exits is None] * self.exit_count
        unused += [f"exit_heads.{i}" for i, never in enumerate(passed) if never]
        return unused + [f"exit_gates.{i}" for i, g in enumerate(gates) if policy.settled(g) is not None]

    def exit_gate_parameters(self) -> list[nn.Parameter]:
        return list(self.exit_gates.parameters())

    def visit(self, unit: int, u: Tensor, walk: Walk) -> Tensor:
        """What the units behind `unit` get: u, of those who did not leave at the exit there, if there is one."""
        number, rule = self._exit_at.get(unit), walk.policy.exits
        if number is None or (rule is None and not self._exit_gate):
            return u
        source = u.detach() if self.exit_config.detach_trunk else u
        on = self._by_gate(number, source, walk) if self._exit_gate else self._by_confidence(number, source, walk)
        return u if on is None else u[on]

    def _by_confidence(self, number: int, source: Tensor, walk: Walk) -> Tensor | None:
        """Who goes on (None: all) when the exit's own answer decides."""
        head, rule = self.exit_heads[number], walk.policy.exits
        assert rule is not None
        walk.pay(head.own_macs)  # type: ignore[arg-type]
        logits, feature = head(source)
        return walk.leave(rule.leaves(number, [*walk.exit_logits, logits]), logits, feature)

    def _by_gate(self, number: int, source: Tensor, walk: Walk) -> Tensor | None:
        """Who goes on (None: all) when a gate decides; the head is paid by those alone who leave."""
        gate, policy, device = self._exit_gate[number], walk.policy, source.device
        settled = policy.settled(gate)
        if settled is not None and settled[0] > 0 and not (policy.exits is not None and policy.exits.every):
            walk.record([Decision(gate, torch.ones(1, 1, device=device), None)])
            walk.skip_exit()
            return None
        if settled is None:
            judge = self.exit_gates[number]
            walk.pay(judge.own_macs)  # type: ignore[arg-type]
            decision = walk.decide(gate, judge(source))
            z_AU = decision.z_BU  # an image leaves or stays, also where a policy opens layers by halves
            stay_AU = straight_through((z_AU.detach() > 0).to(z_AU.dtype), z_AU)
            decision = Decision(gate, stay_AU, decision.p_BU)
        else:
            decision = Decision(gate, torch.full((1, 1), float(settled[0] > 0), device=device), None)
        walk.record([decision])
        stay_A = decision.z_BU[:, 0].expand(source.shape[0])
        leaves_A, head = stay_A.detach() <= 0, self.exit_heads[number]
        walk.pay((1 - stay_A.double()) * head.own_macs)  # type: ignore[operator]
        if not walk.compact:
            logits, feature = head(source)
            return walk.leave(leaves_A, logits, feature, stay_A)
        if bool(leaves_A.any()):
            return walk.leave(leaves_A, head(source[leaves_A])[0], only_leaving=True)
        walk.pass_by()
        return None

    def finish(self, u: Tensor, walk: Walk) -> Output:
        """The network's own head for those still in, the fallback for the unsure, everybody's answers."""
        if walk.empty:
            return walk.output(None)
        walk.pay(self.head_macs)
        logits = self.head(u)
        rule = walk.policy.exits
        if rule is None or not self.exit_count:
            return walk.output(logits)
        if rule.every:
            walk.exit_features.append(self.head_feature(u))
            return walk.output(logits)
        fallback = None
        if rule.fallback == "ensemble" and not self._exit_gate:
            heads = [*walk.exit_logits, logits]
            sure = rule.leaves(self.exit_count, heads)
            fallback = ~sure
        return walk.output(logits, fallback)


class ExitObjective(WrappingObjective):
    """What `inner` minimises plus the losses of exits, all of which are evaluated in training."""

    def __init__(self, net: ExitNet, plan: Plan, config: ExitConfig, inner: Objective) -> None:
        super().__init__(net, plan, inner)
        self.config, self.exit_count = config, net.exit_count
        self.exits_alone = bool(net.gates) and all(gate.kind == "exit" for gate in net.gates)

    def policy(self, step: int, ids_B: Tensor) -> Policy:
        policy = self.inner.policy(step, ids_B)
        if self.exits_alone and isinstance(policy, AlwaysOn):  # the inner objective knows of no gates
            policy = Sampled(
                seed=self.plan.seed,
                step=step,
                ids_B=ids_B,
                units=self.net.total_units(),
                order=policy.order,
                survival=policy.survival,
            )
        return replace(policy, exits=ExitRule(every=True))

    def losses(self, output: Output, labels_B: Tensor) -> dict[str, Tensor]:
        terms = self.inner.losses(output, labels_B)
        assert output.exits is not None
        logits = [one.float() for one in output.exits.logits]
        smoothing = self.plan.label_smoothing
        if self.config.exit_decision == "gate":
            return terms | self._gated(output, logits, labels_B)
        last = logits[-1].detach()
        teacher = torch.stack(logits).mean(0).detach() if self.config.teacher == "ensemble" else last
        alpha, t = self.config.alpha_kd, self.config.kd_temperature
        hard = sum(F.cross_entropy(one, labels_B, label_smoothing=smoothing) for one in logits[:-1])
        terms["exits"] = (1 - alpha) * torch.as_tensor(hard)
        if alpha:
            terms["distillation"] = alpha * torch.stack([distillation(one, teacher, t) for one in logits[:-1]]).sum()
        if self.config.exits == "scan":
            terms["features"] = self._features(output.exits.features)
        return terms

    def _features(self, features: Sequence[Tensor]) -> Tensor:
        deepest = features[-1].detach().float()
        form = self.config.feature_form
        distances = [feature_distance(one.float(), deepest, form) for one in features[:-1]]
        return self.config.feature_weight * torch.stack(distances).sum()

    def _gated(self, output: Output, logits: Sequence[Tensor], labels_B: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the answer used, through the gates; each exit's own; and the target of exit rates."""
        stay = [d for d in output.decisions if d.gate.kind == "exit"]
        smoothing = self.plan.label_smoothing
        each = [F.cross_entropy(one, labels_B, reduction="none", label_smoothing=smoothing) for one in logits]
        if len(stay) < self.exit_count:  # warming up: nobody leaves yet
            return {"exits": self.config.shallow_weight * torch.stack(each[:-1]).mean(1).sum()}
        alive_B, used_B, rates = torch.ones_like(each[0]), torch.zeros_like(each[0]), []
        for one_B, decision in zip(each, stay, strict=False):
            on_B = decision.z_BU[:, 0].to(alive_B.dtype)  # already 0 for who left before
            used_B = used_B + (alive_B - on_B) * one_B
            rates.append((alive_B - on_B).mean())
            alive_B = on_B
        used_B = used_B + alive_B * each[-1]
        rate_K = torch.stack(rates)
        return {
            "cross_entropy": used_B.mean(),
            "exits": self.config.shallow_weight * torch.stack(each[:-1]).mean(1).sum(),
            "exit_rates": self.config.exit_loss_weight * sparsity.exit_quad(rate_K, self.config.exit_target),
        }


def distillation(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """temperature^2 times the cross-entropy of the student's softened answers with the teacher's, batch mean."""
    target = (teacher_BC.detach() / temperature).softmax(1)
    return temperature**2 * F.cross_entropy(student_BC / temperature, target)


def feature_distance(feature_BD: Tensor, deepest_BD: Tensor, form: str) -> Tensor:
    """Squared distance, summed over features: mean over images, or summed (the published code)."""
    squares = (deepest_BD.detach() - feature_BD).square().sum()
    return squares if form == "code_sum" else squares / len(feature_BD)


def _chosen(which: str, places: Sequence[Place]) -> list[Place]:
    half = (len(places) + 1) // 2
    return list({"all": places, "early": places[:half], "late": places[len(places) - half :]}[which])


def _kaiming(module: nn.Module) -> None:
    for one in module.modules():
        if isinstance(one, nn.Conv2d):
            nn.init.kaiming_normal_(one.weight, mode="fan_out", nonlinearity="relu")
            if one.bias is not None:
                nn.init.zeros_(one.bias)
