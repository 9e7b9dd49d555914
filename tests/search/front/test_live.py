"""The front of a running study: the same whether it was kept up or read again."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.commands.status import status
from search.front.live import LiveFront
from search.front.pareto import front, hypervolume
from search.front.plateau import at_plateau
from search.front.stored import study_front
from search.objectives import Reference
from search.spec import StudySpec, parse_study
from storage.records import Kind, PointRecord
from storage.store import Store
from tests.points import operating_point, point

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"
REFERENCE = Reference(accuracy=0.1, macs=1e7)
ENDED: list[
    tuple[Kind, int, float, float]
] = [  # kind, number, accuracy, MACs, in the order of ending
    (Kind.BASELINE, 0, 0.50, 5e6),
    (Kind.SEARCH, 0, 0.60, 4e6),
    (Kind.SEARCH, 2, 0.59, 4e6),
    (Kind.BASELINE, 1, 0.80, 6e6),  # between two trials
    (Kind.SEARCH, 1, 0.60, 5e6),
    (Kind.SEARCH, 3, 0.05, 1e5),  # below chance
    (Kind.BASELINE, 2, 0.30, 9e6),  # adds nothing, and is no trial
    (Kind.SEARCH, 4, 0.81, 3e6),
    (Kind.SEARCH, 5, 0.70, 3e6),
]


def spec(plateau: str = "{trials: 2, growth: 0.01}") -> StudySpec:
    return parse_study(TEXT + (f"budget: {{plateau: {plateau}}}\n" if plateau else ""), "s.yml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(f"sqlite:///{tmp_path / 'db.sqlite'}")
    found.add_study("s", spec().model_dump(mode="json"), TEXT, REFERENCE.as_dict())
    return found


def end(store: Store, kind: Kind, number: int, accuracy: float, macs: float) -> None:
    points = [operating_point(accuracy, macs)]
    store.add_trial("s", kind, number, "gated_resnet", {}, 0, 1)
    store.finish_trial("s", kind, number, points=points, result={}, seconds=1.0)


def extend(live: LiveFront, store: Store, kind: Kind, number: int) -> list[PointRecord]:
    return live.extend((kind, number), store.points("s", kind=kind, number=number))


def again(store: Store, of: StudySpec) -> LiveFront:
    """The front made anew from what is stored, in the order of ending."""
    found = LiveFront(of, REFERENCE)
    ended = [t for t in store.trials("s") if t.finished_at is not None]
    for one in sorted(ended, key=lambda t: (t.finished_at, t.number)):
        extend(found, store, one.kind, one.number)
    return found


@pytest.mark.parametrize(
    (
        "trials",
        "seen",
    ),  # after each training, whether the front has grown by less than a hundredth over so many trials
    [
        (1, [False, False, True, False, True, True, True, False, True]),
        (2, [False, False, False, False, False, True, True, False, False]),
        (3, [False] * 9),
    ],
)
def test_after_each_training_reading_again_says_the_same(
    store: Store, trials: int, seen: list[bool]
) -> None:
    of = spec(f"{{trials: {trials}, growth: 0.01}}")
    live, plateaus = LiveFront(of, REFERENCE), []
    for one in ENDED:
        end(store, *one)
        extend(live, store, one[0], one[1])
        read = again(store, of)
        assert read.plateau is live.plateau, one
        assert read.volume == live.volume
        assert {p.training for p in read.points} == {p.training for p in live.points}
        plateaus.append(live.plateau)
    assert plateaus == seen


def test_what_joins_is_what_the_training_has_on_the_front(store: Store) -> None:
    live, joined = LiveFront(spec(), REFERENCE), []
    for one in ENDED:
        end(store, *one)
        joined.append(len(extend(live, store, one[0], one[1])))
    assert joined == [1, 1, 0, 1, 0, 0, 0, 1, 0]
    assert [(p.kind, p.trial) for p in live.points] == [("search", 4)]
    assert live.volume == hypervolume(live.points, reference=REFERENCE) > 0.5


def test_without_a_plateau_in_the_study_file_none_is_seen(store: Store) -> None:
    live = LiveFront(spec(""), REFERENCE)
    for one in ENDED:
        end(store, *one)
        extend(live, store, one[0], one[1])
    assert not live.plateau
    assert not again(store, spec("")).plateau


def test_what_is_no_better_than_the_most_frequent_class_counts_and_is_not_shown() -> None:
    live = LiveFront(spec(), REFERENCE, majority=0.6)
    weak, strong = point(0.605, 1e5, 0), point(0.8, 2e5, 1)
    assert live.extend((Kind.SEARCH, 0), [weak]) == []
    assert live.extend((Kind.SEARCH, 1), [strong]) == [strong]
    assert (live.points, live.shown) == ([weak, strong], [strong])


def test_without_a_region_what_is_ten_points_below_the_best_does_not_count() -> None:
    live = LiveFront(spec(), REFERENCE)
    live.extend((Kind.SEARCH, 0), [point(0.9, 1e5)])
    assert live.corner[0] == pytest.approx(0.2 / (1 - REFERENCE.accuracy))
    live.extend((Kind.SEARCH, 1), [point(0.95, 2e5, 1)])
    assert live.corner[0] == pytest.approx(0.15 / (1 - REFERENCE.accuracy))
    whole = LiveFront(parse_study(TEXT + "region: {within: 1}\n", "s.yml"), REFERENCE)
    whole.extend((Kind.SEARCH, 0), [point(0.9, 1e5)])
    assert list(whole.corner) == [1.0, 1.0]


def test_of_a_training_only_its_own_front_is_kept_without_open_rates() -> None:
    """A search of thousands of trials would keep some 100 kB of each."""
    live, extra = LiveFront(spec(), REFERENCE), {"rates": {"block0": [0.5]}, "metric": "accuracy"}
    better, worse = (point(accuracy, 4e6, extra=extra) for accuracy in (0.6, 0.5))
    rival = point(0.7, 3e6, trial=1)
    live.extend((Kind.SEARCH, 0), [worse, better])
    live.extend((Kind.SEARCH, 1), [rival], stopped=True)
    assert [p.accuracy for p in live.points] == [0.7]
    live.withdraw((Kind.SEARCH, 1))
    (kept,) = live.points
    assert (kept.accuracy, kept.extra) == (0.6, {"metric": "accuracy"})


def test_a_front_from_which_stopped_trainings_go_is_the_front_of_those_that_are_left() -> None:
    """Points are few different ones, so that many are equal: of these the first to end stays."""
    draw, live, ended = random.Random(0), LiveFront(spec(""), REFERENCE), dict[int, Any]()
    may_go_on: list[int] = []
    for number in range(200):
        own = [
            point(draw.randrange(2, 10) / 10, draw.randrange(1, 9) * 1e6, number) for _ in range(3)
        ]
        stopped = draw.random() < 0.5
        live.extend((Kind.SEARCH, number), own, stopped=stopped)
        ended[number] = own
        may_go_on += [number] if stopped else []
        if may_go_on and draw.random() < 0.3:
            gone = may_go_on.pop(draw.randrange(len(may_go_on)))
            del ended[gone]
            live.withdraw((Kind.SEARCH, gone))
        whole = front([p for some in ended.values() for p in front(some)])
        assert [(p.trial, p.accuracy) for p in live.points] == [
            (p.trial, p.accuracy) for p in whole
        ]


def test_a_training_that_ended_for_good_and_is_beaten_leaves_nothing_behind() -> None:
    live = LiveFront(spec(""), REFERENCE)
    live.extend((Kind.SEARCH, 0), [point(0.9, 1e6)])
    live.extend((Kind.SEARCH, 1), [point(0.8, 2e6, 1)])
    live.extend((Kind.SEARCH, 2), [point(0.7, 3e6, 2)], stopped=True)
    stopped = [p for own in live._stopped.values() for p in own]
    assert {p.trial for p in (*live.points, *live._settled, *stopped)} == {0}


def test_a_study_that_has_ended_on_a_plateau_says_so_from_its_tables(store: Store) -> None:
    for number, accuracy in enumerate((0.5, 0.8, 0.801, 0.802)):
        assert not at_plateau(store, store.study("s"))
        end(store, Kind.SEARCH, number, accuracy, 4e6)
    record = store.study("s")
    assert at_plateau(store, record)
    assert status(store, record, study_front(store, record))["state"] == "finished"
    other = spec("").model_dump(mode="json")
    assert not at_plateau(store, replace(record, spec=other))
