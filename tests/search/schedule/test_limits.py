"""Limits are checked on the network's shapes; regions move the corner that counts; both against hand-made numbers."""

from __future__ import annotations

import pytest

from search.front.curves import ReferencePoint
from search.front.region import corner_of
from search.objectives import MACS, MACS_P95, PARAMETERS
from search.schedule.limits import FLOAT_BYTES, limit_of
from search.spec import parse_study
from search.study_parts import Region
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task

GRAY = Task(channels=1, height=8, width=8, classes=10)
TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"
BOX = ReferencePoint(accuracy=0.1, costs=(1e7, 4e5))


def candidate(**values: object) -> Candidate:
    return Candidate.of(family("gated_resnet"), {"backbone": "resnet8", **values}, 3)


def test_a_study_without_limits_takes_everything() -> None:
    assert limit_of(parse_study(TEXT, "s"), GRAY)(candidate(width=1.0)) is None


@pytest.mark.parametrize("key", ["macs", "parameters", "megabytes"])
def test_a_limit_takes_what_is_equal_to_it_and_refuses_what_is_above(key: str) -> None:
    one = candidate(width=0.5)
    net = one.build(GRAY, 0)
    parameters = sum(p.numel() for p in net.parameters())
    size = {
        "macs": net.plain_macs,
        "parameters": parameters,
        "megabytes": FLOAT_BYTES * parameters / 1e6,
    }[key]
    assert limit_of(parse_study(f"{TEXT}limits: {{{key}: {size}}}\n", "s"), GRAY)(one) is None
    below = size * 0.99
    reason = limit_of(parse_study(f"{TEXT}limits: {{{key}: {below}}}\n", "s"), GRAY)(one)
    assert reason is not None
    assert f"limits.{key} allows" in reason


def test_a_refusal_says_what_the_network_has_and_what_is_allowed() -> None:
    limit = limit_of(parse_study(TEXT + "limits: {macs: 100k}\n", "s"), GRAY)
    macs = candidate(width=1.0).build(GRAY, 0).plain_macs
    assert limit(candidate(width=1.0)) == (
        f"{macs / 1e3:.0f} k MACs with everything open, limits.macs allows 100 k"
    )
    limit = limit_of(parse_study(TEXT + "limits: {megabytes: 0.01}\n", "s"), GRAY)
    assert str(limit(candidate(width=1.0))).endswith(" MB, limits.megabytes allows 0.01")


def test_what_cannot_be_built_is_refused_with_the_family_s_reason() -> None:
    one = Candidate.of(family("gated_resnet"), {"granularity": "channel", "gate": "lstm"}, 3)
    with pytest.raises(ValueError, match="lstm") as refused:
        one.build(GRAY, 0)
    assert limit_of(parse_study(TEXT + "limits: {macs: 100M}\n", "s"), GRAY)(one) == str(
        refused.value
    )


def test_a_region_without_limits_is_the_whole_box() -> None:
    assert corner_of(Region(), BOX, (MACS, PARAMETERS), 0.8).tolist() == [1, 1, 1]


def test_a_region_bounds_macs_and_leaves_parameters() -> None:
    assert corner_of(Region(max_macs=2e6), BOX, (MACS, PARAMETERS), 0.8).tolist() == [1, 0.2, 1]
    assert corner_of(Region(max_macs=2e8), BOX, (MACS_P95, PARAMETERS), 0.8).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("region", "best", "loss"),
    [
        (Region(min_accuracy=0.91), 0.95, 0.1),
        (
            Region(min_accuracy=0.91),
            0.55,
            0.5,
        ),  # nothing is so accurate yet: the best so far is the aim
        (Region(min_accuracy=0.91), 0.0, 1.0),
        (Region(within=0.09), 0.91, 0.2),
        (Region(within=0.09), 0.0, 1.0),
        (Region(min_accuracy=0.73, within=0.18), 0.82, 0.3),
        (Region(min_accuracy=0.73, within=0.09), 0.91, 0.2),  # the stricter of the two
    ],
)
def test_a_region_bounds_accuracy_as_far_as_the_front_has_come(
    region: Region, best: float, loss: float
) -> None:
    assert corner_of(region, BOX, (MACS, PARAMETERS), best) == pytest.approx([loss, 1, 1])
