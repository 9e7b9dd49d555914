"""Which networks of each family the contract is tested on: values that keep them small, and variants of those."""

from __future__ import annotations

from typing import Any

from spaces.task import Task

COLOUR = Task(channels=3, height=16, width=16, classes=5)
GRAY = Task(channels=1, height=28, width=28, classes=10)
DIGITS = Task(channels=1, height=8, width=8, classes=10)

Variants = tuple[tuple[Task, dict[str, Any]], ...]

GATED_RESNET: Variants = (
    (COLOUR, {}),
    (COLOUR, {"gated": False}),
    (COLOUR, {"shortcut": "A", "gate_bn": False, "two_logit": True}),
    (COLOUR, {"gate": "independent"}),
    (COLOUR, {"forced_open": "first_last", "backbone": "resnet14"}),
    (COLOUR, {"forced_open": "downsample", "granularity": "joint"}),
    (COLOUR, {"granularity": "channel", "channel_group": 1}),
    (COLOUR, {"granularity": "channel", "channel_where": "outer", "outer_groups": 2}),
    (COLOUR, {"granularity": "channel", "channel_where": "both", "channel_group": 2, "gate": "independent"}),
    (GRAY, {"granularity": "channel", "channel_where": "both", "channel_group": 2, "shortcut": "A"}),
    (COLOUR, {"granularity": "joint", "channel_group": 2}),
    (COLOUR, {"granularity": "joint", "channel_where": "both", "shared_trunk": False, "two_logit": True}),
    (COLOUR, {"granularity": "joint", "channel_where": "both", "gate": "independent"}),
    (DIGITS, {"granularity": "joint", "gate_source": "stem", "channel_group": 1, "shortcut": "A"}),
    (GRAY, {"granularity": "layer", "gate_source": "stem"}),
    (COLOUR, {"exits": "scan", "attention": "full"}),
    (COLOUR, {"exits": "scan", "attention": "depthwise", "granularity": "joint", "channel_group": 2}),
    (DIGITS, {"exits": "msdnet", "exit_places": "late", "gate_source": "stem"}),
    (COLOUR, {"exits": "light", "exit_decision": "gate"}),
    (
        GRAY,
        {"exits": "scan", "attention": "reduced", "exit_decision": "gate", "exit_gate": "conv"},
    ),
)

VARIANTS: dict[str, tuple[dict[str, Any], Variants]] = {
    "gated_resnet": ({"backbone": "resnet8", "width": 0.25}, GATED_RESNET),
}
