"""Early exits of a network: where they stand, who leaves there, who pays for them.

An exit is paid by every image that reaches it, but the head behind an exit gate only by those who leave.

Shapes: B images, A of them still in, C classes, D features, K early exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from spaces.contract.exit_places import Place, chosen
from spaces.contract.forward_pass import Walk
from spaces.contract.net import DynamicNet, Output
from spaces.contract.policies import Decision, Gate, Policy, straight_through
from spaces.contract.units import Guard
from spaces.exits.exit_config import ExitConfig
from spaces.exits.exit_gates import ExitGate
from spaces.exits.exit_heads import HEADS

POOLED = (
    "pooled"  # in the memory of a forward pass: (A, D) of the places passed, where exits read all
)


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

    def add_exits(
        self, config: ExitConfig, places: Sequence[Place], features: int, *, on: bool = True
    ) -> None:
        """Build heads and gates behind the chosen places; `features` is the width of the deepest features.

        Call after the network's gates are set. Raises ValueError when there is no place for an exit.
        """
        self.exit_config = config
        self.exit_heads = nn.ModuleList()
        self.exit_gates = nn.ModuleList()
        self._exit_at: dict[int, int] = {}
        self._exit_gate: tuple[Gate, ...] = ()
        self._remembered: frozenset[int] = frozenset()  # units whose outputs later exits read
        if not config.has_exits or not on:
            return
        taken = chosen(config.exit_places, places)
        if not taken:
            raise ValueError(f"exits: {config.exits} needs a network of two stages at least")
        if config.reads_all:
            self._remembered = frozenset(p.unit for p in places if p.unit <= taken[-1].unit)
        gates, rest = [], self.plain_macs
        offset = sum(gate.units for gate in self.gates)
        for number, place in enumerate(taken):
            read = _together(places, place) if config.reads_all else place
            self.exit_heads.append(HEADS[config.exits](config, read, features, self.task.classes))
            self._exit_at[place.unit] = number
            if config.exit_decision == "gate":
                self.exit_gates.append(ExitGate(config.exit_gate, place, config.exits == "cls"))
                name = f"exit{number}.stay"
                gates.append(
                    Gate(
                        name=name,
                        kind="exit",
                        block=place.unit,
                        units=1,
                        offset=offset + number,
                        macs=rest,
                    )
                )
        self.exit_count = len(taken)
        self._exit_gate = tuple(gates)
        self.gates = (*self.gates, *gates)

    def unneeded(self, policy: Policy) -> list[str]:
        unused = [*super().unneeded(policy)]
        gates = self._exit_gate
        passed = [policy.settled(g) is not None and policy.settled(g) != (0.0,) for g in gates]
        if not gates:
            passed = [policy.exits is None] * self.exit_count
            end = None if policy.exits is None else policy.exits.ends_at
            if end is not None and end < self.exit_count:
                passed[end + 1 :] = [True] * (self.exit_count - end - 1)
                unused += self.behind_unit(next(u for u, k in self._exit_at.items() if k == end))
        unused += [f"exit_heads.{i}" for i, never in enumerate(passed) if never]
        return unused + [
            f"exit_gates.{i}" for i, g in enumerate(gates) if policy.settled(g) is not None
        ]

    def behind_unit(self, unit: int) -> list[str]:
        """Names of submodules of the baseline that only run behind a unit; those that a family does not name stay."""
        return []

    def exit_gate_parameters(self) -> list[nn.Parameter]:
        return list(self.exit_gates.parameters())

    def visit(self, unit: int, u: Tensor, walk: Walk) -> Tensor:
        """What the units behind `unit` get: u, of those who did not leave at the exit there, if there is one."""
        number, rule = self._exit_at.get(unit), walk.policy.exits
        if rule is None and not self._exit_gate:
            return u
        if unit in self._remembered:
            pooled = partial(self.pooled, unit)
            walk.mark("pooling", pooled, u, leaving=not self._exit_gate)
            self._remember(unit, u, walk)
        if number is None:
            return u
        source = walk.memory[POOLED][..., None, None] if self._remembered else u
        if self.exit_config.detach_trunk:
            source = source.detach()
        on = (
            self._by_gate(number, source, walk)
            if self._exit_gate
            else self._by_confidence(number, source, walk)
        )
        return u if on is None else u[on]

    def pooled(self, unit: int, u: Tensor) -> Tensor:
        """(A, C) the mean over the pixels of what stands behind a unit."""
        return u.mean((2, 3))

    def _remember(self, unit: int, u: Tensor, walk: Walk) -> None:
        """Put what stands behind a unit beside what stood behind those before it."""
        own = u.mean((2, 3)) if walk.given_maps else self.pooled(unit, u)
        before = walk.memory.get(POOLED)
        walk.memory[POOLED] = own if before is None else torch.cat([before, own], 1)

    def _by_confidence(self, number: int, source: Tensor, walk: Walk) -> Tensor | None:
        """Who goes on (None: all) when the exit's own answer decides."""
        head, rule = _reader(self.exit_heads[number], walk), walk.policy.exits
        assert rule is not None
        walk.pay(head.own_macs)  # type: ignore[arg-type]
        walk.mark("exit", partial(_sure, head), source, macs=head.own_macs, leaving=True)  # type: ignore[arg-type]
        logits, feature = head(source)
        if walk.policy.branches and rule.ends_at == number:
            walk.end(logits)
            return None
        return walk.leave(rule.leaves(number, [*walk.exit_logits, logits]), logits, feature)

    def _by_gate(self, number: int, source: Tensor, walk: Walk) -> Tensor | None:
        """Who goes on (None: all) when a gate decides; the head is paid by those alone who leave."""
        gate, policy, device = self._exit_gate[number], walk.policy, source.device
        settled = policy.settled(gate)
        if (
            settled is not None
            and settled[0] > 0
            and not (policy.exits is not None and policy.exits.every)
        ):
            walk.record([Decision(gate, torch.ones(1, 1, device=device), None)])
            walk.skip_exit()
            return None
        if settled is None:
            judge = _reader(self.exit_gates[number], walk)
            walk.pay(judge.own_macs)  # type: ignore[arg-type]
            walk.mark("exit gate", lambda u: judge(u) > 0, source, asks=(gate.name,))
            decision = walk.decide(gate, judge(source))
            # an image leaves or stays, also where a policy opens layers by halves
            z_AU = decision.z_BU
            stay_AU = straight_through((z_AU.detach() > 0.5).to(z_AU.dtype), z_AU)
            decision = Decision(gate, stay_AU, decision.p_BU)
        else:
            decision = Decision(
                gate, torch.full((1, 1), float(settled[0] > 0), device=device), None
            )
        walk.record([decision])
        stay_A = decision.z_BU[:, 0].expand(source.shape[0])
        leaves_A, head = stay_A.detach() <= 0, _reader(self.exit_heads[number], walk)
        walk.pay((1 - stay_A.double()) * head.own_macs)  # type: ignore[operator]
        walk.mark("exit", lambda u: head(u)[0], source, guard=Guard(gate.name, open=False))
        if not walk.compact:
            logits, feature = head(source)
            return walk.leave(leaves_A, logits, feature, stay_A)
        if bool(leaves_A.any()):
            return walk.leave(leaves_A, head(source[leaves_A])[0], only_leaving=True)
        walk.pass_by()
        return None

    def finish(self, u: Tensor, walk: Walk) -> Output:
        """The network's own head for those still in, the fallback for the unsure, everybody's answers."""
        if not walk.empty:
            walk.mark("head", self.head, u, macs=self.head_macs)
        return self.finish_with(partial(self.head, u), partial(self.head_feature, u), walk)

    def finish_with(
        self, head: Callable[[], Tensor], head_feature: Callable[[], Tensor], walk: Walk
    ) -> Output:
        """`finish`, where `head` and `head_feature` give what the methods of these names do."""
        if walk.empty:
            return walk.output(None)
        walk.exit_count = self.exit_count
        walk.pay(self.head_macs)
        logits = head()
        rule = walk.policy.exits
        if rule is None or not self.exit_count:
            return walk.output(logits)
        if rule.every:
            walk.exit_features.append(head_feature())
            return walk.output(logits)
        fallback = None
        if rule.fallback == "ensemble" and not self._exit_gate:
            heads = [*walk.exit_logits, logits]
            sure = rule.leaves(self.exit_count, heads)
            fallback = ~sure
        return walk.output(logits, fallback)


def _together(places: Sequence[Place], last: Place) -> Place:
    """What an exit at `last` reads, where it reads the pooled features of all places up to there."""
    return Place(last.unit, sum(place.channels for place in places if place.unit <= last.unit))


def _sure(head: nn.Module, u: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C) logits of an exit's head, and (B,) whether it is sure of them."""
    logits_BC, _ = head(u)
    return logits_BC, logits_BC.float().softmax(1).amax(1).double() > 0.5


def _reader(module: nn.Module, walk: Walk) -> nn.Module:
    """The head or gate as it reads what is there: of given maps, what it does once its input has been made maps."""
    return getattr(module, "inner", module) if walk.given_maps else module
