"""A cost that the product does not know: a row of COSTS is all that it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from search.front.pareto import front, hypervolume
from search.front.pick import pick
from search.objectives import COSTS, Cost, Reference
from search.report.front_note import front_table
from search.report.front_page import front_html
from search.report.front_plot import front_png
from search.report.front_text import summary
from search.run.job import Job, Outcome
from search.schedule.scheduler import Scheduler
from search.spec import parse_study
from storage.store import Store
from tests.points import operating_point, point
from tests.search.run.test_driver import Follower, Scripted, driver

ENERGY = Cost(
    name="energy",
    column="millijoules",
    label="energy per image",
    unit="mJ",
    measure="energy",
    of_baseline=lambda shape: shape.macs / 1e6,
)
TEXT = """\
study: s
data: digits
families: [gated_resnet]
budget: {trials: 4, epochs: 3}
objectives: [accuracy, energy]
warm_start: false
"""
REFERENCE = Reference(accuracy=0.1, macs=1e7, energy=10.0)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COSTS, "energy", ENERGY)


def outcome(job: Job, attempt: int) -> list[Outcome]:
    """The later a trial, the more accurate and the more energy; MACs the other way round."""
    one = operating_point(0.5 + job.number / 10, 1e6 * (9 - job.number))
    one = replace(one, extra={"rates": {}, "millijoules": 1.0 + job.number})
    return [Outcome([one], 10, 100, {"device": "cpu"}, 0.5)]


def test_a_study_searches_with_it(tmp_path: Path) -> None:
    spec = parse_study(TEXT, "s.yml")
    assert spec.costs == (ENERGY,)
    url = f"sqlite:///{tmp_path / 'd.db'}"
    store = Store.open(url)
    store.add_study("s", spec.model_dump(mode="json"), TEXT, REFERENCE.as_dict())
    engine = Scripted(outcome)
    storage = optuna.storages.InMemoryStorage()
    drives = driver(spec, store, storage, engine, reference=REFERENCE, follower=Follower())
    assert drives.run()
    assert isinstance(drives.plan, Scheduler)
    assert [p.trial for p in drives.plan.front.points] == [0, 1, 2, 3]
    assert drives.plan.history.trials[1].chosen == pytest.approx((0.4 / 0.9, 0.2))
    trials = optuna.load_study(study_name="s", storage=storage).get_trials()
    assert [t.values[1] for t in trials] == [1.0, 2.0, 3.0, 4.0]


def test_the_front_and_what_shows_it_use_it() -> None:
    cheap = point(0.8, 9e6, 0, extra={"millijoules": 1.0})
    good = point(0.9, 1e6, 1, extra={"millijoules": 4.0})
    members = front([cheap, good], (ENERGY,))
    assert members == [cheap, good], "by MACs the second would beat the first"
    share = hypervolume(members, costs=(ENERGY,), reference=REFERENCE)
    assert share == pytest.approx((0.9 * 0.7 + 0.6 * 0.1) / 0.9)
    assert pick(members, "fastest", cost=ENERGY) == cheap
    assert summary("s", members, cost=ENERGY).endswith("90.0 % at 4 mJ")
    shown = {"front": members, "hypervolume": share, "cost": ENERGY}
    assert front_png("s", members, **shown) != front_png(
        "s", members, **{**shown, "cost": COSTS["macs"]}
    )
    page = front_html("s", members, **shown)
    assert "energy per image" in page
    assert '"costs":[1.0, 4.0]' in page
    assert front_table(members, ENERGY)["data"][0][0] == 0, "the cheapest first"
