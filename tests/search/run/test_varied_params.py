"""What MLflow's charts of a study have axes for."""

from __future__ import annotations

from search.run.varied_params import MOST_PARAMS, varied_params
from search.spec import parse_study

FROZEN = """
study: s
data: digits
families: [timm]
image_size: [64, 96]
init_from: weights.safetensors
space:
  timm:
    backbone: tf_efficientnet_lite0
    trunk: frozen
    dynamics: exits
    exits: linear
    exit_reads: [all, own]
    lr: {low: 0.01, high: 0.05}
"""


def test_only_what_differs_from_network_to_network_has_an_axis() -> None:
    """An axis for gates, which these networks lack, let MLflow show no chart at all."""
    found = varied_params(parse_study(FROZEN, "s.yml"))
    assert found[0] == "image_size"
    assert {"exit_reads", "lr"} <= {*found}
    assert not {"backbone", "granularity", "gate", "exits", "trunk"} & {*found}


def test_of_a_wide_space_what_describes_a_network_comes_first() -> None:
    found = varied_params(parse_study("study: s\ndata: digits\nfamilies: [gated_resnet]", "s.yml"))
    assert found[:2] == ["backbone", "granularity"]  # its width is not searched
    assert len(found) == MOST_PARAMS


def test_where_all_is_fixed_the_axes_are_those_that_describe_a_network() -> None:
    text = "study: s\ndata: digits\nfamilies: [gated_resnet]\ntrials: [{backbone: resnet8}]\nwarm_start: false"
    assert "backbone" in varied_params(parse_study(text, "s.yml"))
