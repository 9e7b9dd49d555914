"""Baselines that trainings start from: over the registry, their weights fit every candidate of their size."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from search.run.jobs import job_of
from search.schedule.growth import Draw
from search.schedule.sampler import InfeasibleError, draw_candidate
from search.schedule.warm_start import (
    baseline_key,
    baseline_of,
    epochs_of,
    needs_baseline,
    recommended,
    starts_from_baseline,
    two_lengths,
    warm,
)
from search.spec import StudySpec, narrowed_spaces, parse_study
from spaces.contract.family import Candidate
from spaces.contract.registry import families
from spaces.contract.space import active_names
from storage.checkpoints import Checkpoints
from storage.records import Kind, State, TrialRecord
from tests.spaces.variants import COLOUR, VARIANTS
from trainers.initial_weights import start_from

DRAWN = 2  # candidates at random from each family's space


def study(name: str, more: str = "", short: str = "") -> StudySpec:
    """Of one family, sizes kept small."""
    sizes = ", ".join(f"{key}: {value}" for key, value in VARIANTS[name][0].items())
    return parse_study(
        f"study: s\ndata: digits\nfamilies: [{name}]\nbudget: {{epochs: 30{short}}}\n"
        f"space: {{{name}: {{{sizes}}}}}\n{more}",
        "s",
    )


def record(kind: Kind, candidate: Candidate) -> TrialRecord:
    """A training of the candidate."""
    return TrialRecord(
        study="s",
        kind=kind,
        number=0,
        state=State.RUNNING,
        family=candidate.family.name,
        params=candidate.params,
        seed=0,
        epochs=candidate.recipe.epochs,
        started_at=datetime.now(UTC),
        finished_at=None,
        seconds=0.0,
        result={},
        error=None,
        of_trial=None,
        run_id=None,
        published=False,
    )


def candidates(name: str, spec: StudySpec) -> list[Candidate]:
    """The recommended one and some drawn from the space."""
    spaces, draw = narrowed_spaces(spec), np.random.default_rng(3)
    found = [Candidate.of(families()[name], recommended(spaces[name]), epochs_of(spec, name))]
    while len(found) <= DRAWN:
        try:
            found.append(draw_candidate(Draw(draw), spaces, lambda one: epochs_of(spec, one)))
        except InfeasibleError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(families()))
def test_every_candidate_starts_from_the_baseline_of_its_size(name: str, tmp_path: Path) -> None:
    spec = study(name)
    space, checkpoints = narrowed_spaces(spec)[name], Checkpoints(tmp_path)
    for candidate in candidates(name, spec):
        plain = baseline_of(spec, space, candidate)
        trained = plain.build(COLOUR, seed=1)
        assert not trained.gates
        assert not trained.exit_count
        checkpoints.save(
            baseline_key(spec, plain), {f"net.{k}": t for k, t in trained.state_dict().items()}, {}
        )
        net = candidate.build(COLOUR, seed=2)
        with torch.device("meta"):
            needed = candidate.family.build(candidate.baseline().config, COLOUR).state_dict()
        source = str(checkpoints.path(baseline_key(spec, plain)))
        assert start_from(net, source, needed) > 0
        given, now = net.plain_state(trained.state_dict()), net.state_dict()
        for key in needed:
            if not key.endswith("num_batches_tracked"):
                assert torch.equal(now[key], given[key]), key


@pytest.mark.parametrize("name", sorted(families()))
def test_candidates_of_one_size_share_one_baseline_under_the_recommended_recipe(name: str) -> None:
    spec = study(name)
    space = narrowed_spaces(spec)[name]
    own, values = families()[name], recommended(space)
    shared = (*own.size_dimensions, *own.baseline_dimensions)
    for candidate in candidates(name, spec):
        plain = baseline_of(spec, space, candidate)
        assert plain.recipe.epochs == 30
        shown = active_names(own.space, plain.values)
        kept = {key: value for key, value in plain.values.items() if key in shown}
        assert all(kept[key] == candidate.values[key] for key in shared if key in kept)
        recipe = plain.recipe.__dataclass_fields__.keys() - {"epochs"}
        assert all(kept[key] == values[key] for key in recipe if key in kept and key not in shared)
        assert baseline_key(spec, plain).startswith("s/plain-")
        same = Candidate.of(
            own, candidate.values | {"lr": candidate.values["lr"] / 2}, candidate.recipe.epochs
        )
        assert baseline_key(spec, baseline_of(spec, space, same)) == baseline_key(spec, plain)


def test_another_size_has_another_baseline() -> None:
    spec = parse_study("study: s\ndata: digits\nfamilies: [gated_resnet]\n", "s")
    space, own = narrowed_spaces(spec)["gated_resnet"], families()["gated_resnet"]
    keys = {
        baseline_key(
            spec,
            baseline_of(spec, space, Candidate.of(own, {"backbone": backbone, "width": width}, 4)),
        )
        for backbone in ("resnet8", "resnet14")
        for width in (0.25, 0.5)
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("more", "short", "is_warm", "epochs", "lengths"),
    [
        ("", "", True, 30, 1),
        ("", ", warm_epochs: 10", True, 10, 2),
        ("", ", warm_epochs: 30", True, 30, 1),
        ("warm_start: false\n", "", False, 30, 1),
        ("init_from: some.pt\n", "", False, 30, 1),
        ("init_from: {gated_resnet: some.pt}\n", "", False, 30, 1),
        ("init_from: some.pt\n", ", warm_epochs: 10", True, 10, 2),
    ],
)
def test_a_trial_has_the_epochs_of_the_file_unless_the_file_gives_warm_starts_fewer(
    more: str, short: str, is_warm: bool, epochs: int, lengths: int
) -> None:
    spec = study("gated_resnet", more, short)
    assert warm(spec, "gated_resnet") is is_warm
    assert epochs_of(spec, "gated_resnet") == epochs
    assert two_lengths(spec) is (lengths == 2)
    assert starts_from_baseline(spec, "gated_resnet", epochs) is is_warm
    assert not starts_from_baseline(spec, "gated_resnet", epochs + 1)


def test_weights_of_other_images_are_trained_on_these_first(tmp_path: Path) -> None:
    spec = study("gated_resnet", "init_from: imagenet.pt\n", ", warm_epochs: 10")
    space = narrowed_spaces(spec)["gated_resnet"]
    trial = Candidate.of(families()["gated_resnet"], recommended(space) | {"distill": 0.5}, 10)
    baseline = baseline_of(spec, space, trial)
    first, then = (
        job_of(spec, record(kind, one), str(tmp_path))
        for kind, one in ((Kind.BASELINE, baseline), (Kind.SEARCH, trial))
    )
    file = Checkpoints(tmp_path).path(baseline_key(spec, baseline))
    assert first.init_from == "imagenet.pt"
    assert Checkpoints(tmp_path).path(first.key) == file
    assert then.init_from == then.teacher == str(file)


def test_a_distilled_trial_of_full_length_needs_the_baseline_that_it_does_not_start_from() -> None:
    spec = study("gated_resnet", "", ", warm_epochs: 10")
    plain, taught = (
        Candidate.of(families()["gated_resnet"], {"distill": weight}, 30) for weight in (0.0, 0.5)
    )
    assert not starts_from_baseline(spec, "gated_resnet", 30)
    assert (needs_baseline(spec, plain), needs_baseline(spec, taught)) == (False, True)
    alone = study("gated_resnet", "warm_start: false\n")
    assert not needs_baseline(alone, taught)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("budget: {epochs: 9, warm_epochs: 10}", "10 is more than budget.epochs, 9"),
        (
            "budget: {warm_epochs: 4}\nwarm_start: false",
            "no trial starts from a baseline, because of warm_start: false",
        ),
    ],
)
def test_epochs_of_warm_starts_that_say_nothing_are_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"s: budget.warm_epochs: {told}"):
        parse_study(f"study: s\ndata: digits\nfamilies: [gated_resnet]\n{text}\n", "s")
