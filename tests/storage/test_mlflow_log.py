"""What a study leaves in a real MLflow database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.mlflow_client import client
from storage.mlflow_log import MlflowLog
from storage.settings import Settings

pytestmark = [
    pytest.mark.slow,
    # MLflow 3.17 uses what SQLAlchemy 2.1 deprecates
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
START = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return Settings(storage={"folder": tmp_path_factory.mktemp("mlflow")})


@pytest.fixture
def log(settings) -> MlflowLog:
    return MlflowLog(settings)


@pytest.fixture
def mlflow(settings):
    return client(settings)


@pytest.fixture
def study(log, request) -> tuple[str, str]:
    """Experiment and run of a study of this test's own."""
    return log.open_study(
        request.node.name, text="study: s\n", params={"seed": 1}, tags={"automl.sampler": "tpe"}
    )


def trial(log, study, number: int, **changed) -> str:
    given = {
        "name": f"trial-{number:04d}",
        "params": {"backbone": "resnet20", "lr": 0.1},
        "tags": {"automl.kind": "trial", "automl.study": "s", "automl.trial": str(number)},
        "metrics": {"validation accuracy": 0.9, "mean M MACs per image": 12.5},
        "curves": [(1, {"val/accuracy": 0.5}), (2, {"val/accuracy": 0.9})],
        "artifacts": {"operating_points.json": b"[]", "plots/gate_rates.png": b"\x89PNG\xff"},
        "start": START,
        "end": START + timedelta(seconds=10),
        "state": "complete",
    }
    return log.log_trial(*study, **(given | changed))


def content(run, path: str) -> bytes:
    return Path(run.info.artifact_uri.removeprefix("file://"), path).read_bytes()


def test_a_study_is_a_run_in_an_experiment_of_its_name(log, mlflow, study, settings):
    experiment, run = mlflow.get_experiment(study[0]), mlflow.get_run(study[1])
    name = run.data.tags["automl.study"]
    assert experiment.name == f"dynafront/{name}"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert (
        experiment.artifact_location == Path(settings.artifact_root, f"dynafront-{name}").as_uri()
    )
    assert run.info.run_name == f"study {name}"
    assert run.info.status == "RUNNING"
    assert (run.data.tags["automl.kind"], run.data.tags["automl.sampler"]) == ("study", "tpe")
    assert content(run, "study.yml") == b"study: s\n"
    log.finish_study(study[1])
    assert mlflow.get_run(study[1]).info.status == "FINISHED"


def test_a_study_is_found_again_and_what_changed_is_shown_as_a_tag(settings, log, mlflow, study):
    name = mlflow.get_run(study[1]).data.tags["automl.study"]
    log.finish_study(study[1])
    again = MlflowLog(settings).open_study(
        name, text="study: t\n", params={"seed": 2, "trials": 60}, tags={}
    )
    run = mlflow.get_run(study[1])
    assert again == study
    assert run.info.status == "RUNNING"
    assert run.data.params == {"seed": "1", "trials": "60"}
    assert run.data.tags["seed"] == "2"
    assert content(run, "study.yml") == b"study: t\n"


def test_a_study_whose_experiment_was_deleted_takes_it_back(log, mlflow, study):
    name = mlflow.get_run(study[1]).data.tags["automl.study"]
    mlflow.delete_experiment(study[0])
    assert log.open_study(name, text="", params={}, tags={})[0] == study[0]
    assert mlflow.get_experiment(study[0]).lifecycle_stage == "active"


def test_a_trial_is_one_finished_run_below_the_study(log, mlflow, study):
    run = mlflow.get_run(trial(log, study, 3))
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 10_000
    assert run.data.tags["mlflow.parentRunId"] == study[1]
    assert run.data.tags["pareto"] == "false"
    assert run.data.params == {"backbone": "resnet20", "lr": "0.1"}
    assert run.data.metrics == {
        "validation accuracy": 0.9,
        "mean M MACs per image": 12.5,
        "val/accuracy": 0.9,
    }
    history = mlflow.get_metric_history(run.info.run_id, "val/accuracy")
    start = run.info.start_time
    assert [(m.step, m.value, m.timestamp - start) for m in history] == [
        (1, 0.5, 5000),
        (2, 0.9, 10_000),
    ]
    assert content(run, "plots/gate_rates.png") == b"\x89PNG\xff"


def test_more_values_than_one_request_may_hold_all_arrive(log, mlflow, study):
    params = {f"p{i}": i for i in range(230)}
    curves = [(epoch, {f"gate/{i}": 0.5 for i in range(60)}) for epoch in range(1, 41)]
    run = mlflow.get_run(trial(log, study, 0, params=params, curves=curves, metrics={}))
    assert run.data.params == {name: str(value) for name, value in params.items()}
    assert len(run.data.metrics) == 60
    assert len(mlflow.get_metric_history(run.info.run_id, "gate/59")) == 40


def test_a_diverged_trial_with_nan_in_its_curves_is_a_failed_run(log, mlflow, study):
    run = mlflow.get_run(
        trial(log, study, 0, metrics={}, curves=[(1, {"train/loss": float("nan")})], state="failed")
    )
    assert run.info.status == "FAILED"
    assert run.data.metrics["train/loss"] != run.data.metrics["train/loss"]


def test_a_trial_that_was_stopped_early_is_a_finished_run(log, mlflow, study):
    assert mlflow.get_run(trial(log, study, 0, state="stopped")).info.status == "FINISHED"


def test_a_trial_that_is_logged_again_replaces_its_run_and_no_other(log, mlflow, study):
    static = {"automl.kind": "static", "automl.study": "s", "automl.trial": "1"}
    others = {trial(log, study, 0), trial(log, study, 1, tags=static)}
    old = trial(log, study, 1)
    new = trial(log, study, 1, metrics={"validation accuracy": 0.95})
    runs = {
        run.info.run_id for run in mlflow.search_runs([study[0]], "tags.`automl.trial` LIKE '%'")
    }
    assert runs == others | {new}
    assert mlflow.get_run(old).info.lifecycle_stage == "deleted"


def front(log, study, members, steps=(0,), note="**front**", last=0.0):
    volumes = [0.1 * step for step in steps[:-1]] + [0.1 * steps[-1] + last]
    log.log_front(
        *study,
        metrics=[
            (step, {"study/hypervolume": volume})
            for step, volume in zip(steps, volumes, strict=True)
        ],
        artifacts={"pareto/front.csv": b"trial\n0\n"},
        note=note,
        members=members,
    )


def tagged(mlflow, study) -> set[str]:
    return {run.info.run_id for run in mlflow.search_runs([study[0]], "tags.pareto = 'true'")}


def test_the_front_stands_on_the_study_and_on_its_members(log, mlflow, study):
    a, b = trial(log, study, 0), trial(log, study, 1)
    front(log, study, {a: True, b: False})
    assert tagged(mlflow, study) == {a}
    front(log, study, {a: False, b: True}, note="x\n" * 10_000)
    assert tagged(mlflow, study) == {b}
    run = mlflow.get_run(study[1])
    assert content(run, "pareto/front.csv") == b"trial\n0\n"
    assert 7000 < len(run.data.tags["mlflow.note.content"]) < 8000


def test_a_new_process_knows_which_members_and_steps_are_written(settings, log, mlflow, study):
    a, b = trial(log, study, 0), trial(log, study, 1)
    front(log, study, {a: True, b: False}, steps=(0, 1))
    other = MlflowLog(settings)
    front(other, study, {a: False, b: True}, steps=(0, 1, 2))
    front(other, study, {a: False, b: True}, steps=(0, 1, 2))
    assert tagged(mlflow, study) == {b}
    assert [m.step for m in mlflow.get_metric_history(study[1], "study/hypervolume")] == [0, 1, 2]


def test_what_a_trial_that_went_on_added_shows_although_no_step_is_new(
    settings, log, mlflow, study
):
    front(log, study, {}, steps=(0, 1))
    front(log, study, {}, steps=(0, 1), last=0.5)
    assert mlflow.get_run(study[1]).data.metrics["study/hypervolume"] == 0.6
    front(MlflowLog(settings), study, {}, steps=(0, 1), last=0.5)
    assert [m.step for m in mlflow.get_metric_history(study[1], "study/hypervolume")] == [0, 1, 1]


def test_only_changed_members_cost_a_request(log, mlflow, study, monkeypatch):
    runs = [trial(log, study, number) for number in range(3)]
    front(log, study, dict.fromkeys(runs, True))
    written = []
    real = type(mlflow).set_tag

    def write(*args):
        written.append(args[1])
        real(*args)

    monkeypatch.setattr(type(mlflow), "set_tag", write)
    front(log, study, {runs[0]: True, runs[1]: False, runs[2]: True})
    assert written == [runs[1]]


def test_a_replaced_member_gets_its_place_on_the_front_back(log, mlflow, study):
    front(log, study, {trial(log, study, 0): True})
    new = trial(log, study, 0)
    front(log, study, {new: True})
    assert tagged(mlflow, study) == {new}


def test_saved_views_and_a_note_of_ones_own_stay(log, mlflow, study):
    log.write_saved_views(study[0], ["width"], "mean M MACs per image")
    first = mlflow.get_experiment(study[0]).tags
    assert {"mlflow.sharedViewState.pareto", "mlflow.sharedViewState.all"} <= set(first)
    assert log.view_path(study[0]).lstrip("/") in first["mlflow.note.content"]
    mlflow.set_experiment_tag(study[0], "mlflow.note.content", "mine")
    log.write_saved_views(study[0], ["width"], "mean M MACs per image")
    assert mlflow.get_experiment(study[0]).tags == first | {"mlflow.note.content": "mine"}


def test_the_experiments_note_links_to_the_page_only_where_the_server_has_it(log, mlflow, study):
    log.write_saved_views(study[0], ["width"], "mean M MACs per image")
    charts = mlflow.get_experiment(study[0]).tags["mlflow.note.content"]
    log.write_saved_views(study[0], ["width"], "mean M MACs per image", study="a b")
    ours = mlflow.get_experiment(study[0]).tags["mlflow.note.content"]
    assert ours == f"[The study's page](dynafront/study?name=a%20b). {charts}"
    log.settings = Settings(tracking_uri="http://elsewhere:5000")
    assert log.page_path("a b") == ""
