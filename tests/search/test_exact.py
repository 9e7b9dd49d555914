"""Studies whose file says every trial: listed ones, grids, repeats."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from search.commands.begun import as_begun
from search.objectives import Reference
from search.schedule.decisions import Record, Start
from search.schedule.scheduler import Scheduler
from search.schedule.scheduler_for import scheduler_for
from search.spec import parse_study
from search.study_keys import StudySpec
from spaces.contract.task import Task
from storage.records import StudyRecord

TASK = Task(channels=1, height=8, width=8, classes=10)
GATED = """
study: exact
data: digits
families: [gated_resnet]
space:
  gated_resnet:
    {backbone: resnet8, width: 0.25, loss: [per_batch, target_free], lambda_layer: [0.02, 0.09], granularity: layer}
warm_start: false
early_stopping: false
budget: {epochs: 2}
"""
LISTED = """
study: exact
data: digits
families: [gated_resnet, multi_exit]
space: {gated_resnet: {width: 0.25}, multi_exit: {width: 0.125, lr: 0.05}}
warm_start: false
trials:
  - {family: gated_resnet, loss: target_free, lambda_layer: 0.4}
  - {family: gated_resnet, loss: none, width: 0.5}
  - {family: multi_exit, lr: 0.2}
  - {family: multi_exit}
"""


def spec_of(text: str) -> StudySpec:
    return parse_study(text, "study.yml")


def scheduler_of(spec: StudySpec) -> Scheduler:
    return scheduler_for(spec, TASK, Reference(accuracy=0.1, macs=1e6, parameters=1e5))


def record_of(stored: dict[str, Any]) -> StudyRecord:
    return StudyRecord(
        name="exact",
        spec=stored,
        text=GATED,
        reference={},
        seconds_spent=0.0,
        created_at=datetime.now(UTC),
        experiment_id=None,
        run_id=None,
        owner=None,
        lease_until=None,
        lease_left=None,
    )


def trained(spec: StudySpec) -> list[tuple[str, dict[str, Any], int]]:
    """(family, parameters, seed) of each training of the search, in their order."""
    scheduler, found = scheduler_of(spec), []
    while (decision := scheduler.next()) is not None:
        if isinstance(decision, Start):
            trial = decision.trial
            found.append((trial.candidate.family.name, dict(trial.candidate.params), trial.seed))
        else:
            assert isinstance(decision, Record)
    assert scheduler.finished
    return found


def test_a_grid_is_all_combinations_that_differ_and_nothing_else() -> None:
    spec = spec_of(GATED + "sampler: grid\n")
    assert spec.budget.trials == 3
    # lambda_layer is not read under per_batch, so both of its values are one setting there
    read = [(p["loss"], p.get("lambda_layer")) for _, p, _ in trained(spec)]
    assert read == [("per_batch", None), ("target_free", 0.02), ("target_free", 0.09)]


def test_repeats_train_the_same_again_with_other_seeds_after_all_settings_once() -> None:
    once = trained(spec_of(GATED + "sampler: grid\n"))
    twice = trained(spec_of(GATED + "sampler: grid\nrepeats: 2\n"))
    assert [one[:2] for one in twice] == [one[:2] for one in [*once, *once]]
    assert len({seed for *_, seed in twice}) == 6


def test_listed_trials_are_trained_as_they_are_listed_with_defaults_for_the_rest() -> None:
    spec = spec_of(LISTED)
    assert spec.budget.trials == 4
    found = [(name, params) for name, params, _ in trained(spec)]
    assert [name for name, _ in found] == ["gated_resnet"] * 2 + ["multi_exit"] * 2
    gated, plain, fast, common = (params for _, params in found)
    assert (gated["loss"], gated["lambda_layer"], gated["width"]) == ("target_free", 0.4, 0.25)
    assert (plain["loss"], plain["width"]) == ("none", 0.5)
    assert (fast["lr"], common["lr"]) == (0.2, 0.05)
    assert fast["backbone"] == common["backbone"]


def test_a_study_may_go_on_with_more_repeats_but_not_with_other_trials() -> None:
    spec = spec_of(GATED + "sampler: grid\n")
    known = record_of(spec.model_dump(mode="json"))
    assert as_begun(spec_of(GATED + "sampler: grid\nrepeats: 3\n"), known).budget.trials == 9
    other = GATED.replace("[0.02, 0.09]", "[0.02]")
    with pytest.raises(ValueError, match="exists with another space"):
        as_begun(spec_of(other + "sampler: grid\n"), known)


def test_a_study_from_before_there_were_exact_settings_goes_on() -> None:
    spec = spec_of(GATED)
    stored = {
        k: v for k, v in spec.model_dump(mode="json").items() if k not in ("trials", "repeats")
    }
    assert as_begun(spec, record_of(stored)).trials == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GATED + "repeats: 3\n", "repeats: a search has no settings to repeat"),
        (GATED + "trials: [{width: [0.25, 0.5]}]\n", r"trials\[0\].width: takes one value"),
        (GATED + "trials: [{widht: 0.25}]\n", r"trials\[0\].widht: no such dimension; did you"),
        (GATED + "trials: [{family: multi_exit}]\n", r"trials\[0\].family: write one of gated"),
        (GATED + "sampler: tpe\ntrials: [{width: 0.25}]\n", "sampler: nothing is sampled"),
        (GATED + "sampler: grid\nstarting_points: true\n", "starting_points: exact settings have"),
        (
            GATED.replace("[0.02, 0.09]", "{low: 0.02, high: 0.09}") + "sampler: grid\n",
            "lambda_layer: a grid has no ranges; list values, such as",
        ),
        (
            GATED.replace("epochs: 2", "epochs: 2, trials: 10") + "sampler: grid\nrepeats: 2\n",
            "budget.trials: 10, but 3 settings x 2 repeats are 6 trials; leave it out",
        ),
        (LISTED.replace("family: multi_exit", "family: gated_resnet"), "multi_exit has no trial"),
        (
            LISTED.replace("family: multi_exit, ", ""),
            r"trials\[2\].family: write one of gated_resnet,",
        ),
        (
            LISTED.replace("loss: none", "loss: none, lambda_layer: 0.4"),
            r"trials\[1\].lambda_layer: has no",
        ),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        spec_of(text)
    assert "\n" not in str(error.value)
