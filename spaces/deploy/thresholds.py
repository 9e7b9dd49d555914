"""Thresholds of gates and exits as numbers that come with each call: one network at all its operating points.

Shapes: T thresholds, those of the gates that decide per image in the network's order, then those of its exits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from spaces.contract.knobs import Knobs
from spaces.contract.policies import Fixed, Gate, Policy, Threshold

Values = Sequence[float] | Tensor  # (T,)
THRESHOLDS = "thresholds"  # input of the ONNX file
Named = Mapping[str, float]  # thresholds by name, in their order


def thresholds_of(gates: Iterable[Gate], knobs: Knobs, fixed: Fixed) -> dict[str, float]:
    """The knobs' thresholds by name: the gate's, `exit0` and so on; empty where nothing is decided per image.

    With a fallback, the last one is that of the network's own head.
    """
    found: dict[str, float] = {}
    if knobs.policy == "threshold":
        deciding = [gate.name for gate in gates if None in fixed.get(gate.name, (None,))]
        found |= {name: tau_of(knobs, name) for name in deciding}
    exits = sum(gate.kind == "exit" for gate in gates)
    if not exits and knobs.exits() is not None:
        found |= {f"exit{number}": value for number, value in enumerate(knobs.exit_thresholds)}
    return found


def thresholds_at(named: Named, knobs: Knobs) -> list[float]:
    """The knobs' values (T,) of the thresholds with these names."""
    exits = [f"exit{number}" for number in range(len(knobs.exit_thresholds))]
    own = dict(zip(exits, knobs.exit_thresholds, strict=True))
    return [own[name] if name in own else tau_of(knobs, name) for name in named]


def tau_of(knobs: Knobs, gate: str) -> float:
    """The threshold of the gate with this name."""
    return float(knobs.tau[gate] if isinstance(knobs.tau, Mapping) else knobs.tau)


def policy_at(policy: Policy, named: Named, values: Values) -> Policy:
    """The policy with these values, numbers or a tensor (T,), in place of its own thresholds."""
    each = values.split(1) if isinstance(values, Tensor) else values
    by_name = dict(zip(named, each, strict=True))
    rule = policy.exits
    if rule is not None and any(is_exit(name) for name in by_name):
        levels = tuple(value for name, value in by_name.items() if is_exit(name))
        policy = replace(policy, exits=replace(rule, thresholds=levels))
    if isinstance(policy, Threshold):
        # all are made float32 at once: a runtime takes a microsecond for each small operation
        single = values.float().split(1) if isinstance(values, Tensor) else values
        return replace(policy, tau=dict(zip(named, single, strict=True)))
    return policy


def settled_by_all(settings: Sequence[Fixed]) -> dict[str, tuple[float | None, ...]]:
    """What is settled at every one of several operating points, and alike; the rest is decided per image."""
    first, *others = settings
    return {
        name: tuple(
            value if all(_at(one, name, unit) == value for one in others) else None
            for unit, value in enumerate(units)
        )
        for name, units in first.items()
    }


def _at(fixed: Fixed, gate: str, unit: int) -> float | None:
    units = fixed.get(gate)
    return None if units is None else units[unit]


def is_exit(name: str) -> bool:
    """Whether a threshold is that of an exit's own answer, not of a gate."""
    return name.removeprefix("exit").isdecimal()
