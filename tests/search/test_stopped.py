"""Networks of trials that were stopped early: counted, inspected and exported like others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.commands.inspect import chosen_point
from search.commands.status import as_text, statuses
from search.export.curve import Setting
from search.export.export import export
from search.export.model import load_exported
from search.run.job import Job, Rung
from search.run.worker import events, trained_net
from search.spec import parse_study
from spaces.contract.knobs import Knobs
from storage.rows import point_row
from storage.store import Store
from tests.points import operating_point
from trainers.data.splits import DataSpec

TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 4, epochs: 3}\n"
POINT = operating_point()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Trials 0 and 1 stopped, 2 complete, 3 failed."""
    found = Store.open(f"sqlite:///{tmp_path / 'dynafront.db'}")
    found.add_study(
        "s", parse_study(TEXT, "s").model_dump(mode="json"), TEXT, {"accuracy": 0.1, "macs": 1e7}
    )
    for number in range(4):
        found.add_trial("s", "search", number, "gated_resnet", {"backbone": "resnet8"}, 0, 3)
    for number in (0, 1):
        found.finish_trial(
            "s",
            "search",
            number,
            points=[POINT],
            result={"stopped_at": 1},
            seconds=1.0,
            state="stopped",
        )
    found.finish_trial("s", "search", 2, points=[POINT], result={}, seconds=1.0)
    found.fail_trial("s", "search", 3, error="no such file", epoch=None, trace="")
    return found


def test_status_counts_stopped_trials_as_done(store: Store) -> None:
    (one,) = statuses(store, "s")
    assert one["state"] == "finished"
    assert one["trials"]["by_state"] == {"stopped": 2, "complete": 1, "failed": 1}
    assert "  trials   1 complete, 2 stopped early, 1 failed, of 4;" in as_text(one)
    assert one["front"]["points"] == 1


def test_time_left_counts_stopped_trials_as_done(store: Store) -> None:
    store.resume_trial("s", "search", 0)
    store.add_seconds("s", 30.0)
    store.take_lease("s", "me", 60.0)
    (one,) = statuses(store, "s")
    assert one["eta_seconds"] == 10.0


def test_a_stopped_trial_can_be_inspected_and_a_running_one_not(store: Store) -> None:
    record = store.study("s")
    assert chosen_point(store, record, training=("search", 1)).trial == 1
    store.resume_trial("s", "search", 1)
    with pytest.raises(ValueError, match="trial 1 is running in study s"):
        chosen_point(store, record, training=("search", 1))


@pytest.mark.slow
def test_a_stopped_trials_point_is_exported_with_the_weights_that_it_was_measured_with(
    tmp_path: Path,
) -> None:
    one = Job(
        kind="search",
        number=3,
        family="gated_resnet",
        params={"backbone": "resnet8", "width": 0.25, "batch": 32, "granularity": "joint"},
        epochs=3,
        seed=0,
        data=DataSpec(source="digits", validation=0.2, train_limit=96),
        checkpoints=str(tmp_path / "checkpoints"),
        key="s/search-0003",
        precision="float32",
        threads=1,
        rungs=(1, 2),
    )
    rung = next(event for event in events(one) if isinstance(event, Rung))
    point = rung.points[0]
    rates = {name: tuple(units) for name, units in point.extra["rates"].items()}
    setting = Setting(Knobs(**point.knobs), rates, point_row(point))
    made = export(replace(one, trained=1), study="s", point=setting, folder=tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "stopped after 1 of 3 epochs" in card
    assert load_exported(tmp_path / "model").description["epochs"] == {
        "planned": 3,
        "trained": 1,
        "kept": 1,
    }
    net = trained_net(replace(one, trained=1))[0]
    assert torch.equal(made.net.fc.bias, net.fc.bias)

    for _ in events(replace(one, rungs=())):
        pass
    with pytest.raises(ValueError, match="holds epoch 3, its points were measured after epoch 1"):
        export(replace(one, trained=1), study="s", point=setting, folder=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    export(one, study="s", point=setting, folder=tmp_path / "whole")
    assert "Training: 3 epochs\n" in (tmp_path / "whole" / "README.md").read_text()
