"""The front of a running study: the same whether it was kept up or read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.front import Reference, hypervolume
from search.frontier import Frontier
from search.study_file import StudySpec, parse_study
from storage.records import Kind
from storage.store import Store

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"
REFERENCE = Reference(accuracy=0.1, macs=1e7)
ENDED: list[tuple[Kind, int, float, float]] = [  # kind, number, accuracy, MACs, in the order of ending
    ("static", 0, 0.50, 5e6),
    ("search", 0, 0.60, 4e6),
    ("search", 2, 0.59, 4e6),
    ("static", 1, 0.80, 6e6),  # between two trials
    ("search", 1, 0.60, 5e6),
    ("search", 3, 0.05, 1e5),  # below chance
    ("static", 2, 0.30, 9e6),  # adds nothing, and is no trial
    ("search", 4, 0.81, 3e6),
    ("search", 5, 0.70, 3e6),
]


def spec(plateau: str = "{trials: 2, growth: 0.01}") -> StudySpec:
    return parse_study(TEXT + (f"budget: {{plateau: {plateau}}}\n" if plateau else ""), "s.yml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'db.sqlite'}")
    found.add_study("s", spec().model_dump(mode="json"), TEXT, vars(REFERENCE))
    return found


def end(store: Store, kind: Kind, number: int, accuracy: float, macs: float) -> None:
    values: dict[str, Any] = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high"), accuracy)
    values |= dict.fromkeys(("macs_mean", "macs_p95", "macs_max"), macs)
    points = [{**values, "knobs": {}, "parameters": 10, "chosen": True, "extra": {}}]
    store.add_trial("s", kind, number, "gated_resnet", {}, 0, 1)
    store.finish_trial("s", kind, number, points=points, result={}, seconds=1.0)


def again(store: Store, of: StudySpec) -> Frontier:
    found = Frontier(of, store, REFERENCE)
    found.take_up([*store.trials("s", kind="search"), *store.trials("s", kind="static")])
    return found


@pytest.mark.parametrize(
    ("trials", "seen"),  # after each training, whether the front has grown by less than a hundredth over so many trials
    [
        (1, [False, False, True, False, True, True, True, False, True]),
        (2, [False, False, False, False, False, True, True, False, False]),
        (3, [False] * 9),
    ],
)
def test_after_each_training_reading_again_says_the_same(store: Store, trials: int, seen: list[bool]) -> None:
    of = spec(f"{{trials: {trials}, growth: 0.01}}")
    live, plateaus = Frontier(of, store, REFERENCE), []
    for one in ENDED:
        end(store, *one)
        live.extend(one[0], one[1])
        read = again(store, of)
        assert read.plateau is live.plateau, one
        assert read.volume == live.volume
        assert {p.training for p in read.points} == {p.training for p in live.points}
        plateaus.append(live.plateau)
    assert plateaus == seen


def test_what_joins_is_what_the_training_has_on_the_front(store: Store) -> None:
    live, joined = Frontier(spec(), store, REFERENCE), []
    for one in ENDED:
        end(store, *one)
        joined.append(len(live.extend(one[0], one[1])))
    assert joined == [1, 1, 0, 1, 0, 0, 0, 1, 0]
    assert [(p.kind, p.trial) for p in live.points] == [("search", 4)]
    assert live.volume == hypervolume(live.points, reference=REFERENCE) > 0.5


def test_without_a_plateau_in_the_study_file_none_is_seen(store: Store) -> None:
    live = Frontier(spec(""), store, REFERENCE)
    for one in ENDED:
        end(store, *one)
        live.extend(one[0], one[1])
    assert not live.plateau
    assert not again(store, spec("")).plateau
