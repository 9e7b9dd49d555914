"""Networks in a few words: every family says its own sizes and what makes its networks dynamic."""

from __future__ import annotations

from itertools import product

import pytest

from search.report.text import describing_params, knobs_text, network_text, readable_knobs
from spaces.contract.family import Candidate, Family
from spaces.contract.registry import families

FAMILIES = families().values()


def every_size(family: Family) -> list[dict[str, object]]:
    choices = {d.name: d.choices for d in family.space if d.name in family.size_dimensions}
    names = family.size_dimensions
    return [
        dict(zip(names, values, strict=True))
        for values in product(*(choices[name] for name in names))
    ]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_baselines_are_told_apart_by_their_sizes(family: Family) -> None:
    baselines = [Candidate.of(family, size, epochs=1).baseline() for size in every_size(family)]
    words = [network_text(family.name, candidate.params) for candidate in baselines]
    assert len(words) > 1
    assert all(one.removeprefix("baseline").strip() for one in words)
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_dynamic_network_is_described_by_family_size_and_what_makes_it_dynamic(
    family: Family,
) -> None:
    assert family.traits
    assert set(family.traits) <= {d.name for d in family.space}
    candidate = Candidate.of(family, {}, epochs=1)
    words, baseline = (
        network_text(family.name, candidate.params),
        network_text(family.name, candidate.baseline().params),
    )
    assert words.startswith(f"{family.name} {baseline.removeprefix('baseline ')} ")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_what_describes_a_network_is_what_saved_views_show(family: Family) -> None:
    assert describing_params([family.name]) == [*family.size_dimensions, *family.traits]


def test_what_describes_networks_of_several_families_is_listed_once_sizes_first() -> None:
    assert describing_params(["multi_exit", "skip_vit"]) == [
        *("backbone", "width", "layers", "dim"),
        *("exits", "attention", "aggregator", "oracle", "loss", "target"),
    ]


def test_words_are_those_that_a_reader_knows() -> None:
    told = {
        "backbone": "resnet14",
        "width": 0.5,
        "granularity": "joint",
        "exits": "none",
        "loss": "l0",
        "target": 0.3,
    }
    assert network_text("gated_resnet", told) == "gated_resnet resnet14 x0.5 joint l0 0.30"
    assert network_text("gated_resnet", told | {"gated": False}) == "baseline resnet14 x0.5"
    assert (
        network_text("gated_mobilenet", {"width": 0.5, "depth": 1.5, "gated": False})
        == "baseline depth 1.5 x0.5"
    )
    assert network_text("gated_features", {"hidden": 64, "gated": False}) == "baseline 64 units"
    with pytest.raises(
        ValueError, match=r"^gated_resnets is not a family; did you mean gated_resnet\?$"
    ):
        network_text("gated_resnets", told)


def test_a_cascade_is_told_by_who_is_asked_in_which_order() -> None:
    members = [
        {"kind": "search", "trial": 3, "image_size": 64, "share": 1.0, "knobs": {}},
        {"kind": "static", "trial": 8, "image_size": 96, "share": 0.37, "knobs": {}},
    ]
    knobs = {
        "policy": "cascade",
        "rule": "maxprob",
        "thresholds": [0.7512],
        "committee": False,
        "members": members,
    }
    words = "trial 3 at 64 px first; 37 % go on to baseline 8 at 96 px"
    assert knobs_text(knobs) == words
    assert readable_knobs(knobs)["members"] == words
    assert readable_knobs(knobs)["thresholds"] == "0.751"
    assert network_text("cascade", {}) == "several networks"
    one_size = [{key: m[key] for key in m if key != "image_size"} for m in members]
    averaged = knobs | {"members": one_size, "committee": True}
    assert knobs_text(averaged) == "trial 3 first; 37 % go on to baseline 8; mean of all answers"
