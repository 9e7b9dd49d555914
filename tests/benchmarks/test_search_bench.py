"""The table of trainings and what replays it: look-ups, the clock, signals, other libraries, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
import pytest

from benchmarks.search_bench import make, others
from benchmarks.search_bench.compare import OPTUNA, OURS, _replayed, bootstrap, ratio
from benchmarks.search_bench.ours import Ours
from benchmarks.search_bench.plain_optuna import Optuna
from benchmarks.search_bench.signals import Contribution, DrawnBudget, Signal, drawn_budget, signals
from benchmarks.search_bench.table import Table
from benchmarks.search_bench.table import Training as Trained
from benchmarks.search_bench.world import SECONDS, SpentError, World
from search.schedule.growth import Draw
from search.schedule.history import History, Training
from search.schedule.optuna_sampler import OptunaSampler, random
from search.schedule.sampler import Setting, draw_candidate
from search.schedule.samplers import SAMPLERS
from search.spec import parse_study
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.space import Dimension
from storage.records import State

FOLDER = Path(__file__).parents[2] / "benchmarks" / "search_bench" / "digits"
RANDOM = Optuna(lambda seed: optuna.samplers.RandomSampler(seed=seed))
CHEAP, EXACT, BEHIND = (np.array([point]) for point in ((0.6, 0.2), (0.2, 0.6), (0.7, 0.7)))


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(FOLDER)


def replayed(
    method: Callable[[World], None], table: Table, seed: int, budget: float
) -> list[tuple[float, Any]]:
    world = World(table, seed, budget)
    method(world)
    return [(time, curve.tolist()) for time, curve in world.log]


@pytest.mark.parametrize("name", ["digits", "cifar", "frozen"])
def test_the_study_file_of_a_table_draws_the_candidates_that_were_trained_for_it(name: str) -> None:
    folder = FOLDER.parent / name
    said = list[
        str
    ]()  # digits and CIFAR-10 fix a dimension that none reads: forests have a column for it
    spec = parse_study((folder / "study.yml").read_text(), name, said.append)
    few = spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": 6})})
    rows = pq.read_table(folder / "runs.parquet").to_pylist()
    trained = {
        row["candidate"]: json.loads(row["params"])
        for row in rows
        if row["start"] == "scratch" and not row["seed"]
    }
    drawn = [params for _, params in make.candidates(few)]
    for number, params in enumerate(drawn):  # dimensions that came later are at their defaults
        assert trained[number].items() <= params.items()
    assert len(drawn) == 6


def setting(table: Table) -> Setting:
    one = (lambda _: (1.0,)), (lambda *_: 1.0)
    return Setting(
        spaces=table.spaces,
        costs=1,
        seed=0,
        trials=30,
        size=one[0],
        epoch_cost=one[1],
        short=lambda _: 18,
    )


def known(*curves: np.ndarray) -> History:
    history = History.empty(1)
    for number, curve in enumerate(curves):
        history.update(number, Training({}, state=State.COMPLETE, curve=curve))
    return history


def test_a_candidate_is_nearest_to_its_own_values(table: Table) -> None:
    for number, one in table.of("scratch").items():
        assert table.nearest(one.family, one.params) == (number, 0)
        other, distance = table.nearest(one.family, one.params, but={number})
        assert other != number
        assert distance > 0


def test_a_replay_trains_no_candidate_twice_as_long_as_others_are_left(table: Table) -> None:
    world, one = World(table, 0, 100), table.of("scratch")[0]
    found = [world.find(one.family, one.params).candidate for _ in range(100)]
    assert sorted(found) == [
        n for n, other in table.of("scratch").items() if other.family == one.family
    ]
    assert found[:2] == [0, table.nearest(one.family, one.params, but={0})[0]]
    assert world.find(one.family, one.params, "warm").candidate == 0, "a training of another kind"
    assert world.find(one.family, one.params).candidate == 0, "none is left"


@pytest.mark.parametrize(
    "name", ["digits", "cifar", pytest.param("frozen", marks=pytest.mark.slow)]
)
def test_a_table_is_what_its_script_would_train(name: str) -> None:
    table = Table(FOLDER.parent / name)

    def key(one: make.Run | Trained) -> str:  # without dimensions that came later
        return Candidate.of(family(one.family), one.params, one.epochs).key

    would = {(run.start, run.candidate, run.seed): key(run) for run in make.runs(table.spec)}
    assert {which: key(one) for which, one in table.trainings.items()}.items() <= would.items()


def test_the_clock_stops_at_the_budget_and_what_was_under_way_does_not_count(table: Table) -> None:
    world = World(table, 0, 2.5 * table.epochs)
    RANDOM(world)
    assert world.clock == world.budget
    assert [time for time, _ in world.log] == [table.epochs, 2 * table.epochs]


def test_the_whole_budget_can_be_spent_and_a_baseline_is_paid_once(table: Table) -> None:
    world = World(table, 0, table.epochs + 1)
    assert world.cost_once("plain-0000-0") == table.epochs
    assert world.cost_once("plain-0000-0") is None
    world.spend(table.epochs)
    world.spend(1)
    assert world.clock == world.budget
    with pytest.raises(SpentError):
        world.spend(1)


def test_trainings_side_by_side_share_the_clock(table: Table) -> None:
    alone, beside = World(table, 0, 4 * table.epochs), World(table, 0, table.epochs)
    how = Ours(warm=False, stopping=False, ahead=False, sampler=SAMPLERS["random"])
    how(alone)
    replace(how, slots=4)(beside)
    assert [time for time, _ in alone.log] == [n * table.epochs for n in (1, 2, 3, 4)]
    assert [time for time, _ in beside.log] == [table.epochs] * 4
    assert [curve.tolist() for _, curve in alone.log] == [c.tolist() for _, c in beside.log]


@pytest.mark.parametrize("name", ["random", OURS, *signals()])
def test_a_replay_with_the_same_seed_gives_the_same_log(table: Table, name: str) -> None:
    arms: dict[str, Any] = {OURS: Ours(), **signals()}
    cold = {n: replace(one, starts=False, warm=False) for n, one in arms.items()}
    method = {"random": RANDOM, **cold}[name]
    first, again, other = (replayed(method, table, seed, 250) for seed in (0, 0, 1))
    assert first
    assert first == again
    assert first != other


def test_a_clock_of_seconds_counts_those_of_the_epochs_and_of_measuring(table: Table) -> None:
    one = table.of("scratch")[0]
    world = World(table, 0, 1e9, SECONDS)
    world.train(one, 2, 6)
    assert world.clock == pytest.approx(sum(one.seconds[2:6]))
    world.train(one, 6, 18, measuring=True)
    assert world.clock == pytest.approx(sum(one.seconds[2:]) + one.measuring_seconds[18])
    clocks = []
    for method in (RANDOM, replace(RANDOM, curve=True)):
        world = World(table, 0, 1.5 * table.seconds, SECONDS)
        method(world)
        clocks.append(world.log[0][0])
    assert clocks[0] < clocks[1], "who counts all operating points has to measure them"


def test_measuring_is_paid_for_where_that_is_asked(table: Table) -> None:
    free, paid = (
        replayed(Ours(starts=False, warm=False, measuring=one), table, 0, 100)[0]
        for one in (False, True)
    )
    assert free[1] == paid[1]
    assert free[0] == table.epochs < paid[0] < 2 * table.epochs


def test_who_thinks_ahead_does_not_know_how_the_training_under_way_ends(table: Table) -> None:
    class Watched(OptunaSampler):
        def think_ahead(self, number: int, history: History, *rest: Any) -> None:
            knew.setdefault(number, len(history.measured_trials()))
            super().think_ahead(number, history, *rest)

        def suggest(self, number: int, history: History, *rest: Any) -> Any:
            knew.setdefault(number, len(history.measured_trials()))
            return super().suggest(number, history, *rest)

    for ahead, expected in ((False, [0, 1, 2, 3]), (True, [0, 0, 1, 2])):
        knew: dict[int, int] = {}
        replayed(
            Ours(warm=False, dedup=False, sampler=lambda one: Watched(one, random), ahead=ahead),
            table,
            0,
            100,
        )
        assert [knew[number] for number in range(4)] == expected


def test_replays_of_another_table_or_budget_are_not_taken_for_these(tmp_path: Path) -> None:
    kept = {
        "table": "digits",
        "trials": 60,
        "replays": {"random": {"0": np.zeros((2, 3)).tolist()}},
    }
    (tmp_path / "curves.json").write_text(json.dumps(kept))
    assert _replayed("digits", 60, ["random"], 1, 1, tmp_path, quiet=True)["random"].shape == (
        1,
        2,
        3,
    )
    for table, trials, unit in (
        ("digits", 30, "epochs"),
        ("cifar", 60, "epochs"),
        ("digits", 60, "seconds"),
    ):
        with pytest.raises(SystemExit, match="give another --out"):
            _replayed(table, trials, ["random"], 1, 1, tmp_path, quiet=True, unit=unit)


def test_contributions_by_hand(table: Table) -> None:
    # each of the two on the front dominates 0.8 x 0.4, of which 0.4 x 0.4 is common
    values = Contribution(setting(table)).values(
        known(CHEAP, EXACT, BEHIND), np.random.default_rng(0)
    )
    assert values == pytest.approx({0: -0.16, 1: -0.16, 2: 1})


def test_a_budget_is_drawn_in_proportion_to_the_rectangle_between_neighbours() -> None:
    # 0.2 x 0.4 below the cheap one, 0.4 x 0.4 between the two, 0.4 x 0.2 above the exact one
    draw, curve = np.random.default_rng(0), np.concatenate([CHEAP, EXACT, BEHIND])
    budgets = [drawn_budget(curve, draw) for _ in range(2000)]
    shares = np.histogram(budgets, [0, 0.2, 0.6, 1])[0] / len(budgets)
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_without_a_front_any_budget_is_drawn() -> None:
    budgets = [drawn_budget(np.ones((1, 2)), np.random.default_rng(seed)) for seed in range(200)]
    assert np.quantile(budgets, [0, 0.5, 1]) == pytest.approx([0, 0.5, 1], abs=0.1)


def test_a_drawn_budget_is_the_same_for_all_and_new_each_time(table: Table) -> None:
    signal, history, found = DrawnBudget(setting(table)), known(CHEAP, EXACT), []
    for seed in range(20):
        budget = drawn_budget(np.concatenate([CHEAP, EXACT]), np.random.default_rng(seed))
        values = signal.values(history, np.random.default_rng(seed))
        found.append((values[0] == 0.6, values[1] == 0.2))
        assert found[-1] == (budget >= 0.2, budget >= 0.6)
    assert set(found) == {(False, False), (True, False), (True, True)}


def test_tpe_follows_a_signal(table: Table) -> None:
    class Transformers(Signal):
        def values(self, history: History, draw: np.random.Generator) -> dict[int, float]:
            seen = history.measured_trials()
            return {n: float(one.params["family"] != "skip_vit") for n, one in seen.items()}

    signal, history, families = Transformers(setting(table)), History.empty(1), []
    for number in range(30):
        params = signal.suggest(number, history, lambda _: 18)
        families.append(params["family"])
        history.update(number, Training(params, state=State.COMPLETE, epoch=18, curve=CHEAP))
    assert families[-10:].count("skip_vit") >= 8


def test_flat_spaces_hold_what_can_matter_and_their_conditions_say_when(table: Table) -> None:
    dimensions, seen = others.flat(table.spaces), set()
    for seed in range(400):
        one = Draw(np.random.default_rng(seed))
        draw_candidate(one, table.spaces, lambda _: 18)
        active = {
            d.name
            for d in dimensions
            if all(one.params.get(p) in values for p, values in d.when.items())
        }
        assert active == set(one.params)
        seen |= active
    assert seen == {d.name for d in dimensions}


def test_a_flat_condition_reaches_through_dimensions_that_are_fixed() -> None:
    def real(name: str, **when: tuple[Any, ...]) -> Dimension:
        return Dimension(kind="float", default=0.5, high=1.0, name=name, when=when)

    space = (
        Dimension(kind="choice", default="x", choices=("x", "y"), name="searched"),
        Dimension(
            kind="choice", default="p", choices=("p",), name="fixed", when={"searched": ("x",)}
        ),
        real("deep", fixed=("p", "q")),
        real("never", fixed=("q",)),
        real("below_never", never=(0.5,)),
    )
    found = {d.name: d.when for d in others.flat({"net": space})}
    assert found == {
        "family": {},
        "net.searched": {"family": ("net",)},
        "net.deep": {"family": ("net",), "net.searched": ("x",)},
    }


def test_a_training_that_goes_on_costs_the_further_epochs_alone(table: Table) -> None:
    world = World(table, 0, 100)
    trainings, one = others.Trainings(world), Draw(np.random.default_rng(0))
    candidate = draw_candidate(one, table.spaces, lambda _: 18)
    known = {d.name: d for d in trainings.dimensions}
    positions = {
        n: known[n].choices.index(v) if known[n].kind == "choice" else v
        for n, v in one.params.items()
    }
    points = [trainings.point("a", positions, epoch) for epoch in (2, 6)]
    assert world.clock == 6
    trainings.point("b", positions, 2)
    assert world.clock == 8
    training = World(table, 0, 100).find(candidate.family.name, candidate.params)
    for point, epoch in zip(points, (2, 6), strict=True):
        assert point is not None
        assert point == pytest.approx(world.reference_point.curve([training.trained[epoch - 1]]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("package", "method"),
    [
        ("syne_tune", others.moasha),
        ("syne_tune", others.repaired_moasha),
        ("smac", others.smac),
        ("neps", others.neps),
    ],
)
def test_other_libraries_stop_trainings_and_repeat_themselves(
    table: Table, package: str, method: Callable[[World], None]
) -> None:
    pytest.importorskip(package)
    first, again, other = (replayed(method, table, seed, 120) for seed in (0, 0, 1))
    assert len(first) > 120 / table.epochs
    assert first == again
    assert first != other


def test_the_share_of_the_budget_until_a_target_is_reached() -> None:
    curve = np.array([0.1, 0.5, 0.9, 0.9])
    assert [ratio(curve, target) for target in (0.1, 0.5, 0.7, 0.95)] == [0.25, 0.5, 0.75, np.inf]


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, of quantiles among infinities
def test_an_interval_of_the_median_ratio() -> None:
    theirs = np.tile([0.1, 0.2, 0.3, 0.5], (20, 1))
    same = np.tile([0.1, 0.5, 0.5, 0.5], (20, 1))
    assert bootstrap({OURS: same, OPTUNA: theirs}, draws=50) == [0.5, 0.5]
    mixed = same.copy()
    mixed[:10, 0] = 0.5
    assert bootstrap({OURS: mixed, OPTUNA: theirs}, draws=200) == [0.25, 0.5]
    mixed[:10] = 0.4
    assert bootstrap({OURS: mixed, OPTUNA: theirs}, draws=200) == [0.5, None]
