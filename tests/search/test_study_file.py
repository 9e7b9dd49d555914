"""Study files: every mistake is one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.study_file import narrowed_spaces, parse_study, read_study

GOOD = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"


def test_three_keys_are_enough() -> None:
    spec = parse_study(GOOD, "s.yml")
    assert (spec.budget.trials, spec.sampler, spec.objectives, spec.seed) == (24, "growth", ("accuracy", "macs"), 0)
    assert spec.cost == "macs_mean"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "s.yml: must be a mapping with study, data and families"),
        ("study: [", "s.yml: is not valid YAML: .*line 1"),
        ("study: s\ndata: digits\n", "s.yml: families: is missing"),
        (GOOD.replace("study: s", "study: ../up"), r"s.yml: study: '../up' may only have letters, digits"),
        (GOOD + "sampler: grid\n", "s.yml: sampler: grid is not one of 'tpe', 'nsgaii', 'gp' or 'random'"),
        (GOOD + "seeds: 1\n", r"s.yml: seeds: no such key; did you mean seed\?"),
        (GOOD + "budget: {trails: 3}\n", r"s.yml: budget.trails: no such key; did you mean trials\?"),
        (GOOD + "budget: {trials: 0}\n", "s.yml: budget.trials: 0: input should be greater than or equal to 1"),
        (GOOD + "budget: {trials: '9'}\n", "s.yml: budget.trials: '9': input should be a valid integer"),
        (GOOD + "objectives: [accuracy, latency]\n", r"s.yml: objectives: \[accuracy, latency\] is not one of"),
        (GOOD.replace("gated_resnet", "gated_resnt"), r"s.yml: families: gated_resnt is not a family; did you mean"),
        (GOOD + "space: {multi_exit: {}}\n", "s.yml: space.multi_exit: is not among the study's families"),
        (GOOD + "space: {gated_resnet: {targt: 0.5}}\n", r"space.gated_resnet.targt: no such dimension; did you mean"),
        (GOOD + "space: {gated_resnet: {target: 1.4}}\n", "gated_resnet.target: 1.4 is not between 0.1 and 1"),
        (GOOD + "space: {gated_resnet: {gate: [mlp]}}\n", "gate: mlp is not one of dependent, independent"),
        (GOOD + "space: {gated_resnet: {target: {low: 0.8, high: 0.2}}}\n", "target: low 0.8 is above high 0.2"),
    ],
)
def test_a_mistake_names_file_key_given_and_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_study(text, "s.yml")
    assert "\n" not in str(caught.value)


def test_yaml_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(ValueError, match="is not valid YAML"):
        parse_study(f"study: !!python/object/apply:pathlib.Path.touch [{marker}]", "s.yml")
    assert not marker.exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yml: cannot be read"):
        read_study(tmp_path / "none.yml")


def test_the_space_is_narrowed_as_the_file_says() -> None:
    spec = parse_study(GOOD + "space: {gated_resnet: {target: {low: 0.3, high: 0.8}, backbone: [resnet8]}}", "s.yml")
    by_name = {d.name: d for d in narrowed_spaces(spec)["gated_resnet"]}
    assert (by_name["target"].low, by_name["target"].high) == (0.3, 0.8)
    assert by_name["backbone"].choices == ("resnet8",)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "studies").glob("**/*.yml")), ids=lambda p: p.stem)
def test_the_shipped_studies_are_valid(path: Path) -> None:
    spec, text = read_study(path)
    assert spec.study
    assert text.startswith("#"), "a shipped study begins with a comment that says what it is for"
