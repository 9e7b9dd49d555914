"""A study's cascades: what a person gets of them, from the search to the tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from search.cli import main
from search.commands.clean import _needed
from search.export.classifier import load_classifier
from search.export.model import Model, load_exported
from search.front.finalists import rank_trials
from search.front.stored import study_front
from search.latency.table import LatencyTable
from search.report.text import knobs_text
from search.run.cascade_members import members_of, trainings_with_answers
from search.run.cascade_passes import Passes
from search.run.cascades import _found
from search.run.data import data_spec, load_data, task_of
from search.schedule.space_units import units_of_space
from search.schedule.timed_shapes import untrained
from search.spec import narrowed_spaces, parse_study
from search.study_parts import Limits
from spaces.contract.registry import candidate_of
from spaces.contract.units import units_of
from storage.kept_files import checkpoint_store
from storage.records import Kind, PointRecord, trainings_of
from storage.settings import Settings, Storage
from storage.store import Store
from tests.search.latency.tables import table_of

STUDY = """
study: pair
data: digits
families: [gated_resnet]
image_size: [8, 16]
space:
  gated_resnet: {backbone: resnet8, width: 0.25, batch: 32, granularity: layer}
budget: {trials: 2, epochs: 4}
region: {within: 1}
train_limit: 300
validation_limit: 200
run: {workers: 0, threads: 1, device: cpu, precision: float32}
"""


def dynafront(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a study with cascades was searched."""
    place = tmp_path_factory.mktemp("cascades")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("pair.yml").write_text(STUDY)
        found = dynafront("search", "pair.yml")
    assert found.exit_code == 0, found.output
    return place


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(folder)
    return Store.open(Settings(storage=Storage(folder=folder / "dynafront-data")).database_url)


def cascades(store: Store) -> list[PointRecord]:
    return store.points("pair", kind=Kind.CASCADE)


@pytest.mark.slow
def test_cascades_join_the_front_with_words_for_them(store: Store) -> None:
    front = json.loads(dynafront("front", "pair", "--format", "json").output)
    joined = [p for p in front["points"] if p["kind"] == "cascade"]
    assert joined
    knobs = joined[0]["knobs"]
    sizes = [one["image_size"] for one in knobs["members"]]
    assert set(sizes) <= {8, 16}
    share = f"{knobs['members'][1]['share']:.0%}".replace("%", " %")
    assert f"px first; {share} go on to " in knobs_text(knobs)
    assert "first;" in dynafront("front", "pair").output
    # by its family alone, what is of no family is left out
    alone = json.loads(
        dynafront("front", "pair", "--family", "gated_resnet", "--format", "json").output
    )
    assert all(p["kind"] != "cascade" for p in alone["points"])
    assert dynafront("status", "pair").exit_code == 0


@pytest.mark.slow
def test_what_a_cascade_costs_is_what_its_images_ran(store: Store) -> None:
    points = {(p.training, json.dumps(p.knobs)): p for p in store.points("pair")}
    for cascade in cascades(store):
        own = [
            points[training, json.dumps(one["knobs"])]
            for training, one in zip(trainings_of(cascade), cascade.knobs["members"], strict=True)
        ]
        assert cascade.parameters == sum(p.parameters for p in own)
        assert cascade.macs_max <= sum(p.macs_max for p in own)
        assert own[0].macs_mean < cascade.macs_mean < sum(p.macs_mean for p in own)
        answered = [one["share"] for one in cascade.extra["answered"]]
        shares = [one["share"] for one in cascade.knobs["members"]]
        assert sum(answered) == pytest.approx(1)
        assert shares[0] == 1
        assert np.allclose(np.cumsum(answered[::-1])[::-1], shares)
        right = sum(one["share"] * one["accuracy"] for one in cascade.extra["answered"])
        assert right == pytest.approx(cascade.accuracy)
        assert cascade.extra["selection_bias"] is not None


@pytest.mark.slow
def test_the_trainings_of_a_cascade_are_kept_and_ranked(store: Store) -> None:
    record = store.study("pair")
    members = {t for p in study_front(store, record).members for t in trainings_of(p)}
    assert members <= _needed(store, record)
    assert (Kind.CASCADE, 0) not in members
    alone = study_front(store, record, cascades=False).members
    assert all(p.kind != Kind.CASCADE for p in alone)
    assert set(rank_trials(store, record)) == {p.trial for p in alone if p.kind == Kind.SEARCH}


@pytest.mark.slow
def test_a_cascade_is_inspected_by_its_members(store: Store) -> None:
    point = cascades(store)[0]
    found = dynafront("inspect", "pair", "--point", str(point.id))
    assert found.exit_code == 2
    assert "is a cascade of several networks; inspect one of them: --trial" in found.output


@pytest.mark.slow
# of MLflow's own modules
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_an_exported_cascade_says_and_does_what_its_members_did(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # two sizes, so that one file makes the smaller images from the larger
    point = next(p for p in cascades(store) if _sides(p) == {8, 16})
    found = dynafront(
        "export",
        "pair",
        "--point",
        str(point.id),
        "--quantize",
        "int8",
        "--register",
        "--out",
        "model",
    )
    assert found.exit_code == 0, found.output
    assert f"  cascade   {knobs_text(point.knobs)}" in found.output
    assert "360 of 360 answers as the trained network's" in found.output
    description = json.loads(Path("model/model.json").read_text())
    assert description["task"]["height"] == 16
    assert [one["task"]["height"] for one in description["network"]["members"]] == [
        one["image_size"] for one in point.knobs["members"]
    ]
    report = description["report"]
    assert report["test"]["macs_mean"] == pytest.approx(point.macs_mean, rel=0.15)
    assert report["selection_bias"]["exit_thresholds"] == point.extra["selection_bias"]
    card = Path("model/README.md").read_text()
    assert "the image goes on to" in card
    assert "Smaller images are made inside of the model" in card

    # torch and ONNX Runtime from the files alone, on the same image
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    ours, theirs = load_exported(Path("model")), load_classifier(Path("model"))
    for one in (pixels, 255 - pixels):
        answer, probability, macs = ours.predict(one)
        again = theirs.predict(one)
        assert (answer, macs) == (again[0], again[2])
        assert probability == pytest.approx(again[1], abs=1e-4)

    line = found.output.split("  MLflow    ")[1].splitlines()[0]
    served_by_mlflow(line, [pixels, 255 - pixels], ours, monkeypatch)
    # in integers, with the later members behind their branch still
    small = report["variants"]["int8"]
    assert small["same_answers"] >= small["limits"]["same"] * small["test"]["images"]
    assert small["test"]["macs_mean"] == pytest.approx(report["test"]["macs_mean"], rel=0.1)
    assert load_classifier(Path("model"), "int8").predict(pixels)[0] in description["classes"]


def served_by_mlflow(
    line: str, images: list[np.ndarray], ours: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registered version, loaded by the line that export prints, answers alike."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # the line sets it
    loaded: dict[str, Any] = {}
    exec(compile(line, "the line that export prints", "exec"), loaded)
    rows = loaded["model"].predict(images).to_dict("records")
    for row, image in zip(rows, images, strict=True):
        label, probability, macs = ours.predict(image)
        assert (row["class"], row["macs"]) == (label, macs)
        assert row["probability"] == pytest.approx(probability, abs=1e-4)
    mlflow.set_tracking_uri(None)


def _sides(point: PointRecord) -> set[int]:
    return {one["image_size"] for one in point.knobs["members"]}


@pytest.mark.slow
def test_cascades_are_searched_again_when_there_are_other_trainings_alone(
    store: Store, folder: Path
) -> None:
    before = [p.id for p in cascades(store)]
    again = dynafront("search", "pair.yml")
    assert again.exit_code == 0, again.output
    assert "searching cascades" not in again.output
    assert [p.id for p in cascades(store)] == before
    Path("off.yml").write_text(STUDY + "cascades: false\n")
    assert dynafront("search", "off.yml").exit_code == 0
    assert cascades(store) == []
    assert dynafront("search", "pair.yml").exit_code == 0
    assert len(cascades(store)) == len(before)


@pytest.mark.slow
def test_with_a_latency_table_cascades_have_predicted_latencies(store: Store) -> None:
    spec, said = parse_study(STUDY, "pair.yml"), list[str]()
    task = task_of(load_data(data_spec(spec)))
    trained = (*store.trials("pair", Kind.SEARCH), *store.trials("pair", Kind.BASELINE))
    units = [u for one in trained for u in units_of(untrained(candidate_of(one), task))]
    units += [u for u in units_of_space(narrowed_spaces(spec), task) if u.kind == "resize"]
    checkpoints = Settings().checkpoints
    kept = checkpoint_store(checkpoints, Settings().store)
    members = members_of(store, spec, trainings_with_answers(store, spec, kept), kept)

    def found(table: LatencyTable) -> list[Any]:
        passes = Passes(spec, str(checkpoints), table=table)
        return _found(store, spec, members, passes, said.append)

    timed = found(table_of(units))
    assert len(timed) == len(cascades(store))
    for p in timed:
        times = p.latencies
        assert 1 < times["latency_mean"] <= times["latency_p95"] <= times["latency_max"]
    without = found(table_of(one for one in units if one.kind != "resize"))
    assert len(without) < len(timed), "those of both sizes cannot be predicted"
    assert re.search("[1-9] cascades are left out: the latency table lacks units", said[-1])
    limited = spec.model_copy(update={"limits": Limits(latency_ms=1.5)})
    passes = Passes(limited, str(checkpoints), table=table_of(units))
    assert _found(store, limited, members, passes, said.append) == []
