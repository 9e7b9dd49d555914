"""What is asked next: starting points, then by the sampler, within the limits; and at what length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from search.schedule import growth
from search.schedule.growth_sampler import Growth, learned_losses, trainings_to_learn_from
from search.schedule.history import Training
from search.schedule.known_trials import KnownTrials
from search.schedule.sampler import (
    STARTUP,
    InfeasibleError,
    starting_points,
    trial_seed,
)
from search.schedule.training_length import PATIENCE
from search.spec import narrowed_spaces, parse_study
from spaces.contract.family import Candidate
from storage.records import State
from tests.search.schedule.studies import (
    BOTH,
    SPACES,
    Study,
    candidates,
    cost_of,
    run,
)


def plain_cost(found: Sequence[Candidate | InfeasibleError]) -> float:
    """Their geometric mean."""
    return float(np.exp(np.mean([np.log(cost_of(one)) for one in candidates(found)])))


def test_starting_points_are_each_family_recommended_then_at_another_size() -> None:
    points = starting_points(BOTH)
    assert [point["family"] for point in points][:3] == [
        "gated_resnet",
        "multi_exit",
        "gated_resnet",
    ]
    mine = [point for point in points if point["family"] == "gated_resnet"]
    sizes = [(point["gated_resnet.backbone"], point["gated_resnet.width"]) for point in mine]
    assert sizes == [("resnet20", 1.0), ("resnet8", 0.25)]
    assert "family" not in starting_points(SPACES)[0]


def test_the_first_trials_are_the_starting_points_and_may_be_left_out() -> None:
    first = candidates(run(Study("random", starts=True), 2))
    for one, point in zip(first, starting_points(SPACES), strict=True):
        asked = {f"gated_resnet.{name}": value for name, value in one.params.items()}
        assert asked.items() <= point.items()
    without = candidates(run(Study("random"), 1))
    assert without[0].key != first[0].key


def test_trainings_whose_points_are_all_unusable_do_not_keep_growth_from_choosing() -> None:
    one = Study()
    for _ in range(9):
        number, _ = one.ask()
        one.look(number, 4, np.empty((0, 2)), (2.0, 2.0), ended=True)
    assert isinstance(one.ask()[1], Candidate)


def narrow(limit: float) -> Callable[[Candidate], str | None]:
    return lambda candidate: "too wide" if candidate.values["width"] > limit else None


def test_growth_avoids_what_the_limits_refuse_and_others_are_refused_before_training() -> None:
    assert all(one.values["width"] <= 0.5 for one in candidates(run(Study(limit=narrow(0.5)), 12)))
    found = run(Study("random", limit=narrow(0.5)), 12)
    refused = [one for one in found if isinstance(one, InfeasibleError)]
    assert 0 < len(refused) < 12
    assert all(str(one) == "too wide" and one.values["width"] > 0.5 for one in refused)


def test_a_starting_point_beyond_the_limits_is_refused() -> None:
    found = run(Study(starts=True, limit=narrow(0.1)), 1)
    assert isinstance(found[0], InfeasibleError)


def test_when_all_that_growth_drew_is_beyond_the_limits_the_trial_is_refused() -> None:
    (one,) = run(Study(limit=lambda _: "nothing is allowed"), 1)
    assert isinstance(one, InfeasibleError)
    assert str(one) == "nothing is allowed"


@pytest.mark.slow
def test_a_region_moves_what_growth_asks_for() -> None:
    one = Study()
    run(one, 16)
    means = []
    for scale in ((1.0, 1.0), (1.0, 0.1), (0.3, 1.0)):
        one.history.corner = np.array(scale)
        means.append(plain_cost([one.ask()[1] for _ in range(5)]))
    whole, cheap, accurate = means
    assert cheap < 0.1
    assert cheap < whole
    assert accurate > 4 * cheap


def test_growth_asks_for_no_candidate_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # nine in ten of what is weighed are copies
    monkeypatch.setattr("search.schedule.ranking.KEPT", 1.0)
    monkeypatch.setattr("search.schedule.ranking.DRAWN", 20)
    found = candidates(run(Study(), 16))
    assert len({one.key for one in found}) == 16


def test_growth_answers_many_workers_from_one_look_at_what_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 64 workers a forest for each suggestion would keep most of them waiting."""
    looks = list[int]()
    predict = growth.predict_losses

    def counted(*of: Any) -> Any:
        looks.append(1)
        return predict(*of)

    monkeypatch.setattr(growth, "predict_losses", counted)
    study = Study(together=4)
    run(study, 12)
    looks.clear()
    found = candidates([study.ask()[1] for _ in range(8)])
    assert len({one.key for one in found}) == 8
    assert len(looks) == 2


def test_growth_remembers_the_trainings_nearest_to_the_front_and_the_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growth, "REMEMBERED", 4)
    losses = [0.9, 0.1, 0.8, 0.2, 0.7, 0.6, 0.5]
    known = {
        number: Training({}, curve=np.array([[loss, 0.5]])) for number, loss in enumerate(losses)
    }
    assert list(trainings_to_learn_from(known, KnownTrials().fronts)) == [1, 3, 5, 6]


@dataclass
class Seen:
    """A training with losses after epochs 2, 4, ... within the second of two budgets; nothing within the first."""

    losses: tuple[float, ...]
    ended: bool = True
    full: bool = False


def seen(*losses: float, ended: bool = True) -> Seen:
    return Seen(losses, ended)


def learned(trainings: Sequence[Seen]) -> np.ndarray:
    states = {True: State.COMPLETE, False: State.STOPPED}
    known = {
        n: Training({}, full=one.full, state=states[one.ended]) for n, one in enumerate(trainings)
    }
    losses = {
        n: {2 * (i + 1): np.array([1.0, loss]) for i, loss in enumerate(one.losses)}
        for n, one in enumerate(trainings)
    }
    return learned_losses(known, losses)


def test_a_stopped_training_counts_as_if_it_had_gone_on_like_the_others() -> None:
    ended = [seen(0.8, 0.4), seen(0.6, 0.3), seen(0.5, 0.4)]
    found = learned([*ended, seen(0.6, ended=False)])
    assert found[:, 0] == pytest.approx([1, 1, 1, 1]), "within a budget that none of them kept"
    assert found[:, 1] == pytest.approx([0.4, 0.3, 0.4, 0.3])
    assert learned([seen(0.6, ended=False)])[0, 1] == 0.6, "nothing is known of how others went on"


def test_a_training_that_got_worse_gives_stopped_ones_no_worse_prospect() -> None:
    assert learned([seen(0.3, 0.6), seen(0.4, ended=False)])[:, 1] == pytest.approx([0.6, 0.4])


def test_what_is_learned_of_a_training_are_its_losses_within_shares_of_its_size() -> None:
    one = Study(size=lambda _: (0.5,))
    number, _ = one.ask()
    one.look(number, 4, np.array([[0.7, 0.1], [0.3, 0.5]]), (0.3, 0.5), ended=True)
    assert isinstance(one.sampler, Growth)
    known = dict(zip(growth.shares(1)[:, 0], one.sampler._losses[number][4], strict=True))
    assert {loss for share, loss in known.items() if share < 0.2} == {1.0}
    assert {loss for share, loss in known.items() if 0.2 < share < 1} == {0.7}
    assert {loss for share, loss in known.items() if share > 1} == {0.3}


def trained(one: Study, losses: Sequence[float]) -> list[int]:
    """Ask and tell trainings of these losses at one cost; returns their epochs."""
    lengths = []
    for loss in losses:
        number, candidate = one.ask()
        assert isinstance(candidate, Candidate)
        lengths.append(candidate.recipe.epochs)
        one.look(number, lengths[-1], np.array([[loss, 0.1]]), (0.1, 0.1), ended=True)
    return lengths


def useless(one: Study, count: int) -> list[int]:
    """The same of so many trainings of which the first is the best."""
    return trained(one, [0.1, *[0.5] * (count - 1)])


@pytest.mark.parametrize("sampler", ["growth", "tpe"])
def test_trainings_are_of_full_length_once_the_short_ones_add_nothing(sampler: str) -> None:
    both = Study(sampler, full=lambda _: 12)
    patient = STARTUP + PATIENCE
    assert useless(both, patient + 3) == [*[4] * patient, 12, 12, 12]
    assert useless(Study(sampler), patient + 3) == [4] * (patient + 3), "there is no other length"
    again = Study(sampler, full=lambda _: 12).again(both)
    first, second = both.ask()[1], again.ask()[1]
    assert isinstance(first, Candidate)
    assert first.recipe.epochs == 12
    assert first == second


def test_short_trainings_go_on_as_long_as_they_make_the_front_grow() -> None:
    one = Study(full=lambda _: 12)
    count = STARTUP + PATIENCE + 4
    assert trained(one, [0.9 - 0.02 * number for number in range(count)]) == [4] * count


def test_short_trainings_go_on_towards_a_region_that_is_not_reached_yet() -> None:
    one = Study(full=lambda _: 12)
    for number in range(STARTUP + PATIENCE + 4):
        loss = 0.6 - 0.015 * number
        assert trained(one, [loss]) == [4]
        one.history.corner = np.array([loss, 1.0])


def test_only_families_with_two_lengths_have_trainings_of_full_length() -> None:
    lengths = {"gated_resnet": (4, 12), "multi_exit": (12, 12)}
    short, full = (lambda n: lengths[n][0]), (lambda n: lengths[n][1])
    one = Study(spaces=BOTH, short=short, full=full, trials=60, starts=True, size=lambda _: (1.0,))
    epochs_of = useless(one, STARTUP + PATIENCE + 12)
    found = [
        (number, one.history.trials[number].params["family"], epochs)
        for number, epochs in enumerate(epochs_of)
    ]
    assert {epochs for _, name, epochs in found if name == "gated_resnet"} == {4, 12}
    assert {number for number, training in one.history.trials.items() if training.full} == {
        number for number, name, epochs in found if (name, epochs) == ("gated_resnet", 12)
    }
    params = [
        one.history.trials[number].params for number, name, _ in found if name == "multi_exit"
    ]
    assert all(params.count(values) == 1 for values in params), "equal trainings were asked again"


def test_what_cannot_be_built_is_not_chosen_and_stops_nobody() -> None:
    def size(candidate: Candidate) -> tuple[float, ...]:
        if candidate.values["backbone"] == "resnet14":
            raise ValueError("cannot be built")
        return (cost_of(candidate),)

    one = Study(size=size)
    for number, _ in enumerate(trained(one, [0.5] * (STARTUP + 6))):
        assert one.history.trials[number].params["gated_resnet.backbone"] != "resnet14"


def test_a_training_that_failed_after_a_rung_is_forgotten() -> None:
    one = Study()
    number, _ = one.ask()
    one.look(number, 2, np.array([[0.2, 0.1]]), (0.2, 0.1))
    one.fail(number)
    assert not one.history.measured_trials()


def test_the_smallest_size_is_the_smallest_whatever_the_file_s_order() -> None:
    space = "space: {gated_resnet: {backbone: [resnet20, resnet8], width: [1.0, 0.25]}}"
    spaces = narrowed_spaces(
        parse_study(f"study: s\ndata: digits\nfamilies: [gated_resnet]\n{space}\n", "s")
    )
    first, smallest = starting_points(spaces)
    assert (first["gated_resnet.backbone"], smallest["gated_resnet.backbone"]) == (
        "resnet20",
        "resnet8",
    )
    assert smallest["gated_resnet.width"] == 0.25


def test_stopped_trainings_are_compared_with_those_of_their_length() -> None:
    def full(*losses: float, ended: bool = True) -> Seen:
        return Seen(losses, ended, full=True)

    short, long = [seen(0.8, 0.4), seen(0.6, ended=False)], [full(0.8, 0.2), full(0.6, ended=False)]
    assert learned([*short, *long])[:, 1] == pytest.approx([0.4, 0.3, 0.2, 0.15])


def test_a_baseline_is_a_rival_of_what_growth_weighs(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts: list[np.ndarray] = []
    weighed = growth.expected_improvement

    def seeing(mean: Any, std: Any, sizes: Any, grid: Any, front: Any, worst: float) -> Any:
        fronts.append(front)
        return weighed(mean, std, sizes, grid, front, worst)

    monkeypatch.setattr("search.schedule.growth.expected_improvement", seeing)
    one = Study()
    run(one, 8)
    one.history.baselines.append(np.array([[0.001, 0.01]]))
    one.ask()
    cheapest = growth.budgets(1)[:, 0] < 0.01
    assert (fronts[-1][~cheapest] == 0.001).all()
    assert (fronts[-1][cheapest] > 0.001).all()


def test_trial_seeds_are_far_apart_and_below_two_to_the_31() -> None:
    seeds = {trial_seed(study, number) for study in range(20) for number in range(100)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**31 for seed in seeds)
