"""Candidates: drawn, keyed, replayed, reduced to their baseline."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import optuna
import pytest
from optuna.trial import FixedTrial

from spaces.contract.family import Candidate
from spaces.contract.narrowing import narrowed
from spaces.contract.recipe import Recipe
from spaces.contract.registry import families, family
from spaces.contract.task import Task

TASK = Task(channels=1, height=8, width=8, classes=3)
RESNET = families()["gated_resnet"]


def test_every_family_is_registered_under_its_own_name() -> None:
    assert {name: one.name for name, one in families().items()} == {
        name: name for name in families()
    }
    for one in families().values():
        assert one.doc
        names = {d.name for d in one.space}
        assert set(one.size_dimensions) <= names
        assert len(names) == len(one.space)
        assert issubclass(one.recipe, Recipe)


def test_a_family_without_words_for_a_size_is_refused_where_it_is_made() -> None:
    with pytest.raises(
        ValueError,
        match=r"^gated_resnet: size_words has width; give words for each of backbone, width$",
    ):
        replace(RESNET, size_words={"width": "x{}"})


def test_an_unknown_family_is_told_the_nearest() -> None:
    assert family("gated_resnet") is RESNET
    with pytest.raises(
        ValueError, match=r"^gated_resnets is not a family; did you mean gated_resnet\?$"
    ):
        family("gated_resnets")


def test_a_candidate_replays_from_the_trials_parameters() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    for _ in range(20):
        trial = study.ask()
        drawn = Candidate.suggested(trial, RESNET, RESNET.space, epochs=3)
        again = Candidate.suggested(FixedTrial(trial.params), RESNET, RESNET.space, epochs=3)
        assert again.config == drawn.config
        assert again.recipe == drawn.recipe
        assert all(name.startswith("gated_resnet.") for name in trial.params)


def test_candidates_that_differ_only_in_what_does_not_matter_share_their_key() -> None:
    layer = Candidate.of(RESNET, {"granularity": "layer"}, epochs=3)
    assert (
        Candidate.of(RESNET, {"granularity": "layer", "channel_group": 16}, epochs=3).key
        == layer.key
    )
    assert (
        Candidate.of(RESNET, {"granularity": "layer", "adamw_lr": 0.005}, epochs=3).key == layer.key
    )
    for other in ({"granularity": "channel"}, {"target": 0.3}, {"lr": 0.2}):
        assert Candidate.of(RESNET, other, epochs=3).key != layer.key
    assert Candidate.of(RESNET, {}, epochs=4).key != layer.key


def test_the_plain_candidate_keeps_size_and_recipe_and_nothing_of_the_gates() -> None:
    gated = Candidate.of(
        RESNET, {"backbone": "resnet14", "shortcut": "A", "target": 0.2, "lr": 0.03}, epochs=3
    )
    plain = gated.baseline()
    assert plain.recipe == gated.recipe
    assert plain.params["backbone"] == "resnet14"
    assert plain.params["gated"] is False
    assert "target" not in plain.params
    assert plain.baseline().key == plain.key
    assert plain.build(TASK, 0).gates == ()
    assert plain.build(TASK, 0).plain_macs == gated.build(TASK, 0).plain_macs
    other = Candidate.of(
        RESNET, {"backbone": "resnet14", "shortcut": "A", "target": 0.9, "lr": 0.03}, epochs=3
    )
    assert other.baseline().key == plain.key


def test_a_narrowed_space_reaches_the_config() -> None:
    space = narrowed(RESNET.space, {"backbone": "resnet8", "shortcut": "A", "lr": 0.05}, "here")
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    candidate = Candidate.suggested(trial, RESNET, space, epochs=1)
    assert (candidate.config.backbone, candidate.config.shortcut, candidate.recipe.lr) == (
        "resnet8",
        "A",
        0.05,
    )


def test_the_peak_learning_rate_is_that_of_the_optimizer() -> None:
    assert Recipe(optimizer="sgd", lr=0.2, adamw_lr=0.003).peak_lr == 0.2
    assert Recipe(optimizer="adamw", lr=0.2, adamw_lr=0.003).peak_lr == 0.003


def test_a_task_survives_its_dict() -> None:
    task = Task(channels=2, height=4, width=6, classes=3, mean=(0.1, 0.2), std=(0.3, 0.4))
    values = task.as_dict() | {"mean": [0.1, 0.2], "std": [0.3, 0.4]}
    assert Task.from_dict(values) == task


# of the default candidate and its baseline, as stored studies name their checkpoints
KEYS = {
    "dense_vit": "5e0f6379dce969c2",
    "gated_densenet": "62bcee02259af272",
    "gated_features": "f9cb5e9bda31eb86",
    "gated_mobilenet": "f6dd9b2ba4c7cd1c",
    "gated_resnet": "44895f99c3183f15",
    "multi_exit": "0ac9923c80047551",
    "shuffled_vit": "a1013f7a8344e791",
    "skip_vit": "aee84e685deadbd5",
    "timm": "a1ef68619077d1f2",
}


@pytest.mark.parametrize("name", KEYS)
def test_dimensions_that_came_later_change_no_key_of_a_stored_candidate(name: str) -> None:
    one = Candidate.of(families()[name], {}, 3)
    both = (one.key + one.baseline().key).encode()
    assert hashlib.sha256(both).hexdigest()[:16] == KEYS[name]


def test_a_baseline_has_no_teacher() -> None:
    one = Candidate.of(RESNET, {"distill": 0.5}, epochs=3)
    assert one.baseline().recipe.distill == 0
    assert one.baseline().key == Candidate.of(RESNET, {}, epochs=3).baseline().key
