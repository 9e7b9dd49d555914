"""The networks that the contract of families is tested on, and every way to run them.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from spaces.contract.exit_rules import ExitRule
from spaces.contract.family import Candidate, Family
from spaces.contract.net import DynamicNet
from spaces.contract.policies import AlwaysOn, Policy, Sampled, ScaledOn, Threshold
from spaces.contract.registry import families
from spaces.contract.task import Task
from tests.spaces.variants import COLOUR, VARIANTS

DRAWN = 4  # candidates at random from each family's whole space, sizes kept small


@dataclass(frozen=True)
class Case:
    """One candidate of one family for one task."""

    name: str
    candidate: Candidate
    task: Task

    def net(self) -> DynamicNet:
        return self.candidate.build(self.task, seed=5)


def _cases() -> Iterator[Case]:
    for family in families().values():
        seen = set()
        assert family.name in VARIANTS, (
            f"{family.name}: say in tests/spaces/variants.py which of its networks to test"
        )
        small, variants = VARIANTS[family.name]
        for task, variant in variants:
            values = small | variant
            candidate = Candidate.of(family, values, epochs=4)
            if (candidate.key, task) not in seen:
                seen.add((candidate.key, task))
                label = "-".join(str(v) for v in variant.values())
                yield Case(f"{family.name}-{label or 'default'}-{task.height}px", candidate, task)
        for index, candidate in enumerate(_drawn(family)):
            yield Case(f"{family.name}-drawn{index}", candidate, COLOUR)


def _drawn(family: Family) -> Iterator[Candidate]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=11))
    small, _ = VARIANTS[family.name]
    for _ in range(DRAWN):
        drawn = Candidate.suggested(study.ask(), family, family.space, epochs=4)
        yield Candidate.of(family, drawn.values | small, epochs=4)


CASES = list(_cases())


def policies(net: DynamicNet, count: int) -> dict[str, Policy]:
    """Every way of deciding gates for a batch of `count` images."""
    ids = torch.arange(count) + 40
    sampled: dict[str, Any] = {"seed": 3, "step": 2, "ids_B": ids, "units": net.total_units()}
    rates = {
        gate.name: tuple(0.2 + 0.6 * u / gate.units for u in range(gate.units))
        for gate in net.gates
    }
    some = {gate.name: (0.0, *(None,) * (gate.units - 1)) for gate in net.gates[::2]}
    ones = {gate.name: (1.0,) * gate.units for gate in net.gates[1::2]}
    return {
        "threshold": Threshold(),
        "low": Threshold(tau=0.2),
        "high": Threshold(tau={gate.name: 0.8 for gate in net.gates}),
        "open": Threshold(tau=0.0),
        "closed": Threshold(tau=1.0),
        "always": AlwaysOn(),
        "scaled": ScaledOn(rates=rates),
        "sampled": Sampled(**sampled),
        "quiet": Sampled(**sampled, estimator="st"),
        "soft": Sampled(**sampled, estimator="soft_then_hard", temperature=0.5),
        "pruned": Threshold(fixed=some),
        "inlined": Sampled(**sampled, fixed=ones),
        **exit_policies(net),
        **order_policies(net),
    }


def exit_policies(net: DynamicNet) -> dict[str, Policy]:
    """Ways of leaving early, for networks that have exits."""
    k = net.exit_count
    if not k:
        return {}
    judges = ((0.7, -1.2, 2.0, 0.5, -0.8),) * (k + 1)
    return {
        "maxprob": Threshold(exits=ExitRule(thresholds=(0.9,) * k, temperatures=(2.0,) * (k + 1))),
        "margin": AlwaysOn(
            exits=ExitRule(rule="margin", thresholds=(0.5,) * (k + 1), fallback="ensemble")
        ),
        "entropy": Threshold(
            exits=ExitRule(rule="entropy", thresholds=(0.7,) * k, fallback="ensemble")
        ),
        "patience": Threshold(tau=0.3, exits=ExitRule(rule="patience", thresholds=(0.4,) * k)),
        "judge": Threshold(
            exits=ExitRule(rule="judge", thresholds=(0.6,) * (k + 1), judges=judges)
        ),
        "nobody": Threshold(exits=ExitRule(thresholds=(1.0,) * k)),
        "all at once": Threshold(exits=ExitRule(thresholds=(-0.1,) * k)),
    }


def order_policies(net: DynamicNet) -> dict[str, Policy]:
    """Orders and choices of layers, for networks whose layers can change places."""
    n = net.movable_layers
    if not n:
        return {}
    return {
        "reversed": Threshold(order=tuple(reversed(range(n)))),
        "fewer": Threshold(order=tuple(range(0, n, 2))),
        "none": Threshold(order=()),
    }


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """torch's own count of what runs meanwhile. Attention is written out: torch 2.14 counts no fused one on CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def counted_macs(net: DynamicNet, image: Tensor, policy: Policy, *, compact: bool = False) -> int:
    """MACs that torch itself counts while the network runs on one image."""
    with counting() as counter, torch.no_grad():
        net(image, policy, compact=compact)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def soft_scaled(net: DynamicNet) -> bool:
    """Whether what runs is multiplied by the gate's score, so that a gate held open answers otherwise."""
    return (
        getattr(net, "config", None) is not None
        and getattr(net.config, "dt_grad", "") == "soft_scale"
    )


def plain_twin(case: Case, net: DynamicNet) -> DynamicNet:
    """The ungated network with the gated one's weights and mode; only keys of gates are left over."""
    plain = case.candidate.baseline().build(case.task, seed=99).to(torch.float64)
    left = plain.load_state_dict(net.state_dict(), strict=False)
    assert left.missing_keys == []
    named = {id(p): name for name, p in net.named_parameters()}
    assert {named[id(p)] for p in net.gate_parameters()} <= set(left.unexpected_keys)
    return plain.train(net.training)
