"""What somebody deleted in MLflow is there again after a sync, once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search.run.publish import Publisher
from search.run.view import View, sync_study
from search.spec import parse_study
from storage.settings import Settings
from storage.store import Store
from tests.points import operating_point

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
TEXT = "study: s\ndata: digits\nfamilies: [gated_resnet]\nbudget: {trials: 2, epochs: 1}\n"
POINTS = {"trial 0: threshold > 0.5": 1, "trial 1: threshold > 0.5": 1}
ALL = {"study s": 1, "trial-0000": 1, "trial-0001": 1} | POINTS


class Synced:
    """A study of two trials, both on the front, that MLflow shows."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings.model_validate({"storage": {"folder": folder}})
        self.store = Store.open(self.settings.database_url)
        spec = parse_study(TEXT, "s").model_dump(mode="json")
        self.store.add_study("s", spec, TEXT, {"accuracy": 0.1, "macs": 1e7})
        for number in range(2):
            self.store.add_trial(
                "s", "search", number, "gated_resnet", {"backbone": "resnet8"}, 0, 1
            )
            point = operating_point(0.8 + number / 10, 1e6 * (1 + 3 * number))
            self.store.finish_trial("s", "search", number, points=[point], result={}, seconds=1.0)
        self.sync()
        self.client = MlflowClient(self.settings.tracking_uri)

    def sync(self) -> int:
        return sync_study(self.store, self.settings, self.store.study("s"))

    @property
    def experiment(self) -> str:
        return str(self.store.study("s").experiment_id)

    @property
    def parent(self) -> str:
        return str(self.store.study("s").run_id)

    def runs(self) -> list[Run]:
        return list(self.client.search_runs([self.experiment]))

    def names(self) -> dict[str, int]:
        return dict(Counter(str(run.info.run_name) for run in self.runs()))

    def trial_run(self, number: int) -> str:
        return str(self.store.trial("s", "search", number).run_id)


@pytest.fixture
def synced(tmp_path: Path) -> Synced:
    return Synced(tmp_path)


def erase(synced: Synced, run: str) -> None:
    """Remove a run for good, as `mlflow gc` does."""
    synced.client.delete_run(run)
    synced.client._tracking_client.store._hard_delete_run(run)


def test_a_deleted_run_of_the_front_comes_back(synced: Synced) -> None:
    run = synced.trial_run(1)
    synced.client.delete_run(run)
    assert synced.sync() == 0
    assert synced.names() == ALL
    assert synced.trial_run(1) == run
    assert synced.client.get_run(run).data.tags["pareto"] == "true"
    assert synced.client.get_run(synced.parent).info.status == "FINISHED"


def test_an_erased_run_is_made_anew(synced: Synced) -> None:
    erase(synced, synced.trial_run(1))
    assert synced.sync() == 1
    assert synced.names() == ALL
    assert synced.client.get_run(synced.trial_run(1)).data.tags["pareto"] == "true"


def test_the_deleted_run_of_the_study_comes_back_with_its_trials(synced: Synced) -> None:
    parent = synced.parent
    synced.client.delete_run(parent)
    assert synced.sync() == 0
    assert synced.parent == parent
    assert synced.names() == ALL


def test_an_erased_run_of_the_study_is_made_anew_and_its_trials_stand_once_below_it(
    synced: Synced,
) -> None:
    parent = synced.parent
    erase(synced, parent)
    assert synced.sync() == 2
    assert synced.parent != parent
    assert synced.names() == ALL
    below = {run.data.tags.get("mlflow.parentRunId") for run in synced.runs()}
    assert below == {None, synced.parent}


def test_a_deleted_experiment_comes_back_without_the_runs_that_were_replaced(
    synced: Synced,
) -> None:
    synced.store.unpublish("s")
    assert synced.sync() == 2
    synced.client.delete_experiment(synced.experiment)
    assert synced.sync() == 0
    assert synced.names() == ALL
    trainings = [run for run in synced.runs() if "automl.point" not in run.data.tags]
    assert {run.info.run_id for run in trainings} == {
        synced.parent,
        synced.trial_run(0),
        synced.trial_run(1),
    }


@pytest.mark.parametrize("what", ["trial", "study", "experiment"])
def test_a_search_goes_on_showing_what_is_deleted_meanwhile(synced: Synced, what: str) -> None:
    said: list[str] = []
    publisher = Publisher(synced.store, synced.settings, parse_study(TEXT, "s"), said.append)
    publisher._view.open()
    if what == "experiment":
        synced.client.delete_experiment(synced.experiment)
    else:
        synced.client.delete_run(synced.parent if what == "study" else synced.trial_run(0))
    publisher.start()
    publisher.trial_finished("search", 1)
    publisher.close()
    assert said == []
    assert synced.names() == ALL


def test_a_look_at_a_study_does_not_mark_it_as_running(synced: Synced) -> None:
    spec = parse_study(TEXT, "s")
    View(synced.store, synced.settings, spec, running=False).open()
    assert synced.client.get_run(synced.parent).info.status == "FINISHED"
    erase(synced, synced.parent)
    View(synced.store, synced.settings, spec, running=False).open()
    assert synced.client.get_run(synced.parent).info.status == "FINISHED"
