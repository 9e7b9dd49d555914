"""How open the gates were in one batch, unit by unit. Exits' gates do not count.

Shapes: B samples, U units of a gate.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from spaces.contract.policies import Decision, Gate

Means = list[tuple[Gate, Tensor]]  # gates, and (U,) the mean open values of their units


def group_of(gate: Gate) -> str:
    """The group of a gate, "layer" or "channel": gates of a group share a target."""
    return "layer" if gate.kind == "layer" else "channel"


def mean_open_values(
    decisions: Sequence[Decision], group: str | None, *, effective: bool = False
) -> Means:
    """Each gate of the group (None: of both) that was asked, with its units' mean open values over the batch.

    If `effective`, a channel of a block that the layer gate closed counts as closed.
    """
    layer_z = {d.gate.block: d.z_BU for d in decisions if d.gate.kind == "layer"}
    means = []
    for decision in decisions:
        gate, z_BU = decision.gate, decision.z_BU
        own = group_of(gate)
        if not decision.asked or gate.kind == "exit" or group not in (None, own):
            continue
        if own == "channel" and effective:
            z_BU = z_BU * layer_z.get(gate.block, z_BU.new_ones(1, 1))
        means.append((gate, z_BU.mean(0)))
    return means


def mean_probabilities(decisions: Sequence[Decision]) -> list[Tensor]:
    """(U,) of each gate that was asked and decides by a probability: its mean over the batch."""
    return [
        d.p_BU.mean(0)
        for d in decisions
        if d.gate.kind != "exit" and d.asked and d.p_BU is not None
    ]


def probabilities_by_image(decisions: Sequence[Decision]) -> list[Tensor]:
    """(B, U) of each gate whose probabilities depend on the image."""
    return [
        d.p_BU
        for d in decisions
        if d.gate.kind != "exit" and d.p_BU is not None and len(d.p_BU) > 1
    ]
