"""The size of the images as a dimension: part of a network's size, and ordered for every sampler."""

from __future__ import annotations

from dataclasses import fields

import optuna
import pytest

from search.run.jobs import job_of
from search.run.number_formats import size_of
from search.schedule.baseline_pool import BaselinePool
from search.schedule.growth import Encoder
from search.schedule.limits import limit_of
from search.schedule.optuna_sampler import OptunaSampler, complete_params, random
from search.schedule.sampler import Setting, starting_points
from search.schedule.sizes import shape_of, size_key
from search.schedule.warm_start import all_baselines, baseline_key, baseline_of
from search.spec import narrowed_spaces, parse_study
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from storage.records import Kind, State, TrialRecord
from tests.search.schedule.studies import SIDES, Study

OWN = family("gated_resnet")
TASK = Task(channels=1, height=32, width=32, classes=10)
SPEC = parse_study(
    "study: s\ndata: digits\nfamilies: [gated_resnet]\nimage_size: [32, 8, 16]\n"
    "space: {gated_resnet: {backbone: resnet8, width: [0.25, 0.5]}}\n",
    "s.yml",
)
SPACES = narrowed_spaces(SPEC)


def at(side: int, **values: object) -> Candidate:
    return Candidate.of(
        OWN, {"backbone": "resnet8", "width": 0.25, "image_size": side, **values}, 4
    )


def test_a_network_costs_what_it_costs_at_its_own_size() -> None:
    one, other = shape_of(at(16), TASK), shape_of(at(8), TASK)
    assert one.parameters == other.parameters
    assert one.macs > 3.9 * other.macs
    assert at(16).build(TASK, 0).task == TASK.at(16)


def test_networks_that_differ_in_the_size_of_images_alone_are_not_equal() -> None:
    assert at(8).key != at(16).key
    assert Candidate.of(OWN, at(8).params, 4) == at(8)
    assert "image_size" not in Candidate.of(OWN, {}, 4).params


def test_each_size_has_its_own_baseline_from_which_its_trials_start() -> None:
    small, large = (baseline_of(SPEC, SPACES["gated_resnet"], at(side)) for side in (8, 16))
    assert (small.image_size, large.image_size) == (8, 16)
    assert baseline_key(SPEC, small) != baseline_key(SPEC, large)
    assert size_key(at(8)) != size_key(at(16))
    pool = BaselinePool(SPEC, SPACES)
    assert pool.needed_by(at(8, target=0.3)) == small
    assert pool.needed_by(at(16)) == large


def test_baselines_of_every_size_are_compared() -> None:
    found = all_baselines(SPACES, 4)
    assert {one.image_size for one in found} == {8, 16, 32}
    assert len({one.key for one in found}) == len(found) == 3 * 4  # widths: also the smaller ones


def test_a_trial_is_trained_on_images_of_its_size_from_the_baseline_of_that_size() -> None:
    jobs = [job_of(SPEC, trial(side), "checkpoints") for side in (8, 16)]
    assert [job.data.image_size for job in jobs] == [8, 16]
    assert jobs[0].init_from != jobs[1].init_from
    assert " of 1x8x8, " in size_of(jobs[0], TASK)
    assert " of 1x16x16, " in size_of(jobs[1], TASK)


def trial(side: int) -> TrialRecord:
    known = {"study": "s", "kind": Kind.SEARCH, "number": 0, "state": State.RUNNING, "result": {}}
    known |= {"family": "gated_resnet", "params": at(side).params, "seed": 0, "epochs": 12}
    unknown = {one.name: None for one in fields(TrialRecord)}
    return TrialRecord(**(unknown | known))


def test_limits_are_of_the_network_at_its_size() -> None:
    most = (shape_of(at(8), TASK).macs + shape_of(at(16), TASK).macs) / 2
    limit = limit_of(SPEC.model_copy(update={"limits": type(SPEC.limits)(macs=most)}), TASK)
    assert limit(at(8)) is None
    assert "limits.macs allows" in (limit(at(16)) or "")


def test_the_search_begins_with_the_largest_and_with_the_smallest_images() -> None:
    assert [start["gated_resnet.image_size"] for start in starting_points(SPACES)] == [32, 8]


def test_growth_knows_that_larger_is_more() -> None:
    params = [{"gated_resnet.image_size": side} for side in (8, 12, 24)]
    rows = Encoder(SIDES).rows(params)
    assert sorted({tuple(row) for row in rows}) == [tuple(row) for row in rows]
    assert (rows != rows[0]).any(0).sum() == 1  # one column, not one a size


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "random"])
def test_optuna_draws_a_place_among_the_sizes_and_we_the_size(sampler: str) -> None:
    study = Study(sampler, spaces=SIDES, size=lambda _: (0.5,))
    asked = [study.ask()[1] for _ in range(12)]
    assert {one.image_size for one in asked} == {8, 12, 24}
    assert isinstance(study.sampler, OptunaSampler)
    inner = study.sampler._study.get_trials(deepcopy=False)
    distribution = inner[0].distributions["gated_resnet.image_size"]
    assert distribution == optuna.distributions.IntDistribution(0, 2)
    assert [t.params["gated_resnet.image_size"] for t in inner] == [
        (8, 12, 24).index(one.image_size) for one in asked
    ]


def test_given_sizes_stay_and_those_of_an_earlier_session_are_known_again() -> None:
    setting = Setting(
        spaces=SIDES, costs=1, seed=0, trials=9, size=lambda _: (0.5,), epoch_cost=lambda *_: 1.0
    )
    given = {"gated_resnet.image_size": 24, "gated_resnet.backbone": "resnet8"}
    params = complete_params(3, given, setting)
    assert params.items() >= given.items()
    sampler = OptunaSampler(setting, random)
    sampler._add(0, params)
    known = sampler._study.get_trials(deepcopy=False)[0].params
    assert known == {**params, "gated_resnet.image_size": 2}
