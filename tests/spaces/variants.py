"""Which networks of each family the contract is tested on: values that keep them small, and variants of those."""

from __future__ import annotations

from typing import Any

from spaces.contract.task import Task

COLOUR = Task(channels=3, height=16, width=16, classes=5)
GRAY = Task(channels=1, height=28, width=28, classes=10)
DIGITS = Task(channels=1, height=8, width=8, classes=10)

Variants = tuple[tuple[Task, dict[str, Any]], ...]

GATED_RESNET: Variants = (
    (COLOUR, {}),
    (COLOUR, {"gated": False}),
    (COLOUR, {"shortcut": "A", "gate_bn": False, "two_logit": True}),
    (COLOUR, {"gate": "independent"}),
    (COLOUR, {"gate": "survival", "loss": "none"}),
    (COLOUR, {"gate": "ffgate_1"}),
    (COLOUR, {"forced_open": "first_last", "backbone": "resnet14"}),
    (COLOUR, {"forced_open": "downsample", "granularity": "joint"}),
    (COLOUR, {"granularity": "channel", "channel_group": 1}),
    (COLOUR, {"granularity": "channel", "channel_where": "outer", "outer_groups": 2}),
    (
        COLOUR,
        {
            "granularity": "channel",
            "channel_where": "both",
            "channel_group": 2,
            "gate": "independent",
        },
    ),
    (
        GRAY,
        {"granularity": "channel", "channel_where": "both", "channel_group": 2, "shortcut": "A"},
    ),
    (
        COLOUR,
        {"granularity": "channel", "channel_where": "both", "outer_groups": 4, "shortcut": "none"},
    ),
    (COLOUR, {"granularity": "joint", "channel_group": 2}),
    (
        COLOUR,
        {"granularity": "joint", "channel_where": "both", "shared_trunk": False, "two_logit": True},
    ),
    (COLOUR, {"granularity": "joint", "channel_where": "both", "gate": "independent"}),
    (DIGITS, {"granularity": "joint", "gate_source": "stem", "channel_group": 1, "shortcut": "A"}),
    (GRAY, {"granularity": "layer", "gate_source": "stem"}),
    (COLOUR, {"exits": "scan", "attention": "full"}),
    (
        COLOUR,
        {"exits": "scan", "attention": "depthwise", "granularity": "joint", "channel_group": 2},
    ),
    (DIGITS, {"exits": "msdnet", "exit_places": "late", "gate_source": "stem"}),
    (DIGITS, {"exits": "light", "exit_reads": "all"}),
    (COLOUR, {"exits": "light", "exit_decision": "gate"}),
    (
        GRAY,
        {"exits": "scan", "attention": "reduced", "exit_decision": "gate", "exit_gate": "conv"},
    ),
    (
        DIGITS,
        {"backbone": "resnet26", "granularity": "joint", "channel_where": "both", "exits": "light"},
    ),
    (
        COLOUR,
        {
            "backbone": "resnet26",
            "granularity": "channel",
            "stem": "imagenet",
            "stride_in": "1x1",
            "gate_source": "stem",  # activations grow along the blocks until the gates that read them saturate
        },
    ),
    (DIGITS, {"backbone": "resnet50", "loss": "per_gate", "target_vector": "aig50"}),
    (COLOUR, {"gate": "lstm", "gate_hidden": 8, "backbone": "resnet14"}),
    (
        DIGITS,
        {
            "gate": "lstm",
            "gate_source": "stem",
            "exits": "light",
            "two_logit": True,
            "forced_open": "first",
        },
    ),
    (COLOUR, {"gate": "policy_net", "gate_hidden": 8, "granularity": "joint", "channel_group": 2}),
    (GRAY, {"gate": "policy_net", "gate_hidden": 8, "exits": "light", "exit_decision": "gate"}),
)

_DENSE: Variants = (
    (COLOUR, {"agg_init": "uniform"}),
    (DIGITS, {"aggregator": "wdc", "patch": 2, "exits": "cls"}),
    (GRAY, {"w_dropout_curve": "const", "w_renorm": True, "detach_cls": True, "exits": "cls"}),
)
_SKIP: Variants = (
    (COLOUR, {}),
    (COLOUR, {"gated": False}),
    (COLOUR, {"loss": "score_sq", "dt_grad": "literal"}),
    (DIGITS, {"loss": "logit_sq", "dt_grad": "soft_scale", "dt_history": "hard", "patch": 2}),
    (COLOUR, {"oracle": "cls", "dt_always": "none", "estimator": "st", "loss": "target_free"}),
    (
        COLOUR,
        {
            "oracle": "independent",
            "dt_always": "first",
            "loss": "mac_quad",
            "stochastic_depth": 0.5,
        },
    ),
    (COLOUR, {"aggregator": "wsdc"}),
    (COLOUR, {"class_tokens": 2, "norm_eps": 1e-6, "exits": "cls"}),
    (GRAY, {"aggregator": "wdc", "exits": "cls"}),
    (DIGITS, {"oracle": "shared", "exits": "cls", "patch": 2}),
    (COLOUR, {"exits": "cls", "exit_decision": "gate", "dt_history": "none", "layerdrop": 0.2}),
)
_SHUFFLED: Variants = (
    (COLOUR, {}),
    (COLOUR, {"gated": False}),
    (COLOUR, {"ls_variant": "position"}),
    (DIGITS, {"ls_variant": "position", "pos_shared": False, "order_train": "window", "patch": 2}),
    (COLOUR, {"ls_variant": "predict", "exits": "cls"}),
    (COLOUR, {"oracle": "cls", "shuffle_prob": 0.5, "exits": "cls", "exit_places": "late"}),
    (COLOUR, {"oracle": "dt", "stochastic_depth": 0.5}),
)
_VIT = {"layers": 4, "dim": 32, "head_dim": 16, "mlp_ratio": 1}

MULTI_EXIT: Variants = (
    (COLOUR, {}),
    (COLOUR, {"gated": False}),
    (COLOUR, {"attention": "full", "exit_places": "early"}),
    (
        COLOUR,
        {
            "attention": "reduced",
            "teacher": "ensemble",
            "feature_form": "code_sum",
            "detach_trunk": True,
        },
    ),
    (COLOUR, {"exits": "light", "exit_decision": "gate", "exit_places": "0+2"}),
    (GRAY, {"backbone": "vgg16_bn", "exits": "msdnet", "exit_places": "late"}),
    (DIGITS, {"backbone": "vgg19_bn", "attention": "none"}),
    (DIGITS, {"backbone": "resnet50", "exit_decision": "gate"}),
    (DIGITS, {"backbone": "wrn20_8", "exits": "light"}),
    (COLOUR, {"exits": "linear", "trunk": "frozen"}),
    (COLOUR, {"exits": "linear", "trunk": "frozen", "exit_reads": "all"}),
)

GATED_MOBILENET: Variants = (
    (COLOUR, {}),
    (COLOUR, {"gated": False}),
    (COLOUR, {"granularity": "channel", "channel_group": 8, "gate_bn": False}),
    (GRAY, {"granularity": "joint", "shared_trunk": False, "exits": "light"}),
    (
        DIGITS,
        {
            "granularity": "joint",
            "gate_source": "stem",
            "forced_open": "downsample",
            "two_logit": True,
        },
    ),
    (
        COLOUR,
        {"granularity": "joint", "gate": "independent", "exits": "msdnet", "exit_decision": "gate"},
    ),
    (COLOUR, {"granularity": "joint", "gate": "policy_net", "gate_hidden": 8}),
)
GATED_DENSENET: Variants = (
    (COLOUR, {}),
    (COLOUR, {"gated": False}),
    (COLOUR, {"exits": "none", "gate_source": "stem", "forced_open": "first_last"}),
    (
        GRAY,
        {
            "exit_after": "transition",
            "exit_gate": "published",
            "msdnet_pool": "squares",
            "compression": 1.0,
        },
    ),
    (DIGITS, {"exits": "light", "exit_decision": "confidence", "gate": "independent"}),
    (COLOUR, {"gate": "lstm", "gate_hidden": 8}),
)

_SMALL_COLOUR = Task(channels=3, height=32, width=32, classes=5)
TIMM: Variants = (
    (COLOUR, {}),
    (COLOUR, {"gated": False}),
    (
        DIGITS,
        {"backbone": "test_vit", "dynamics": "both", "exit_decision": "gate", "gate_bn": False},
    ),
    (
        GRAY,
        {"backbone": "test_mambaout", "dynamics": "both", "exits": "msdnet", "gate_source": "stem"},
    ),
    (
        _SMALL_COLOUR,
        {"backbone": "test_convnext", "gate": "independent", "forced_open": "first_last"},
    ),
    (COLOUR, {"backbone": "test_nfnet", "dynamics": "exits", "exits": "scan", "attention": "none"}),
    (COLOUR, {"stem": "small", "dynamics": "both", "exit_places": "late"}),
    (COLOUR, {"gate": "policy_net", "gate_hidden": 8, "dynamics": "both"}),
    (DIGITS, {"backbone": "test_vit", "gate": "lstm"}),
    (COLOUR, {"dynamics": "exits", "exits": "linear", "trunk": "frozen"}),
    (COLOUR, {"dynamics": "both", "exits": "linear", "exit_reads": "all"}),
    (COLOUR, {"dynamics": "both", "trunk": "frozen"}),
)

VARIANTS: dict[str, tuple[dict[str, Any], Variants]] = {
    "gated_resnet": ({"backbone": "resnet8", "width": 0.25}, GATED_RESNET),
    "multi_exit": ({"backbone": "resnet18", "width": 0.125}, MULTI_EXIT),
    "gated_features": (
        {"hidden": 16},
        ((COLOUR, {}), (GRAY, {"cell": 4, "loss": "mac_quad"}), (DIGITS, {"two_logit": True})),
    ),
    "dense_vit": (_VIT, _DENSE),
    "skip_vit": (_VIT, _SKIP),
    "shuffled_vit": (_VIT, _SHUFFLED),
    "gated_mobilenet": ({"width": 0.25, "depth": 0.5, "channel_group": 16}, GATED_MOBILENET),
    "gated_densenet": ({"depth": 22, "growth": 4}, GATED_DENSENET),
    "timm": ({"backbone": "test_resnet"}, TIMM),
}
_OF_LAYERS = ("mixings.", "places.", "place_heads.")
# how the names of parameters begin that the baseline lacks, beside those of gates and exit heads
ADDED: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("dense_vit", "skip_vit", "shuffled_vit"), _OF_LAYERS
)
