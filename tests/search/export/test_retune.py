"""Thresholds of an exported model chosen again on other images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from search.commands.retune import retune
from search.export.classifier import load_classifier
from search.export.folder import FORMAT, MODEL, ONNX, WEIGHTS
from search.export.model import Model, load_exported
from search.export.retune import Candidate as Found
from search.export.retune import Labelled, candidates, few_of, held_out, read_labelled, within
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.registry import family
from spaces.contract.task import Task
from spaces.deploy import generic
from spaces.deploy.ship import onnx_model, ship
from storage.weights_file import save_weights
from tests.search.export.test_card import described
from tests.spaces.conftest import scrambled
from trainers.metrics import ACCURACY, MACRO_F1, Metric

TASK = Task(channels=1, height=16, width=16, classes=3, mean=(0.5,), std=(0.25,))
NETS: dict[str, tuple[dict[str, Any], Knobs]] = {
    "multi_exit": (
        {"backbone": "resnet18", "width": 0.125},
        Knobs(
            policy="always_on", exit_rule="margin", exit_thresholds=(0.9,) * 4, fallback="ensemble"
        ),
    ),
    "gated_resnet": ({"backbone": "resnet8", "width": 0.25}, Knobs(tau=0.5)),
}
IMAGES = 60


@pytest.fixture(scope="module", params=list(NETS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model whose images answer anything."""
    values, knobs = NETS[request.param]
    candidate = Candidate.of(family(request.param), values, 2)
    net = scrambled(candidate.build(TASK, 0)).float().eval()
    compact = ship(net, knobs, {gate.name: (0.5,) * gate.units for gate in net.gates})
    out = tmp_path_factory.mktemp("model")
    onnx.save(onnx_model(compact, torch.zeros(2, 1, 16, 16)), out / ONNX)
    save_weights({k: v.contiguous() for k, v in compact.state_dict().items()}, out / WEIGHTS)
    thresholds = list(compact.thresholds.values())
    description = described(metric="accuracy") | {
        "format": FORMAT,
        "family": request.param,
        "config": asdict(candidate.config),
        "task": TASK.as_dict(),
        "classes": ["a", "b", "c"],
        "network": compact.description(),
        "thresholds": compact.thresholds,
        "points": [{"number": 1, "thresholds": thresholds, "chosen": True}],
    }
    (out / MODEL).write_text(json.dumps(description))
    return out


@pytest.fixture
def images(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for number in range(IMAGES):
        of_class = tmp_path / "images" / "abc"[number % 3]
        of_class.mkdir(parents=True, exist_ok=True)
        bright = draw.integers(10, 256)
        pixels = draw.integers(0, bright, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(of_class / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.slow
def test_the_new_folder_answers_at_its_new_thresholds_in_both_runtimes(
    folder: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    before = load_exported(folder)
    whole = before.description["report"]["plain_macs"] * 1e6
    lines = retune(folder, images, out, max_macs=whole, force=False, say=lambda line: None)
    assert "thresholds chosen on 30 images" in lines[0]
    fast, slow = load_classifier(out), load_exported(out)
    points = slow.description["points"]
    (chosen,) = (one for one in points if one["chosen"])
    assert chosen["validation"]["accuracy"] == max(p["validation"]["accuracy"] for p in points)
    assert list(slow.net.thresholds.values()) == chosen["thresholds"]
    assert list(slow.net.thresholds) == list(before.net.thresholds)
    for file in sorted(images.rglob("*.png"))[::7]:
        label, probability, macs = slow.predict(file)
        assert fast.predict(file) == (label, pytest.approx(probability, rel=1e-3), macs)
    for one in points:
        assert one["test"]["images"] == IMAGES // 2
    assert "Thresholds were chosen again" in (out / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("metric", [ACCURACY, MACRO_F1], ids=lambda metric: metric.name)
def test_a_candidate_gives_what_the_model_does_at_its_thresholds(
    folder: Path, images: Path, metric: Metric
) -> None:
    model = load_exported(folder)
    labelled = read_labelled(model, images)
    found = candidates(model, labelled, model.description["points"], metric)
    for one in found:
        again = held_out(model, labelled, one.thresholds, metric)
        assert (again["accuracy"], again["macs_mean"]) == pytest.approx((one.accuracy, one.macs))
    if model.description["family"] == "multi_exit":
        assert any(one.thresholds[-1] != 0.9 for one in found), "the deepest head's is chosen too"


@pytest.mark.slow
def test_a_budget_is_kept_and_what_is_wrong_is_named(
    folder: Path, images: Path, tmp_path: Path
) -> None:
    quiet: Any = {"force": False, "say": lambda line: None}
    retune(folder, images, tmp_path / "cheap", max_macs=1.0, **quiet)
    points = load_exported(tmp_path / "cheap").description["points"]
    assert points[0]["chosen"], "nothing is that cheap: the cheapest"
    (images / "a").rename(images / "d")
    with pytest.raises(ValueError, match="d: is no class of the model, which has a, b, c"):
        retune(folder, images, tmp_path / "no", max_macs=None, **quiet)
    (images / "d").rename(tmp_path / "elsewhere")
    (images / "c").rename(tmp_path / "too")
    with pytest.raises(ValueError, match="images: has 20 images; choosing thresholds takes 40"):
        retune(folder, images, tmp_path / "no", max_macs=None, **quiet)
    with pytest.raises(ValueError, match="holds no folders of images"):
        retune(folder, tmp_path / "none", tmp_path / "no", max_macs=None, **quiet)


@pytest.mark.slow
def test_what_is_chosen_is_no_worse_than_the_thresholds_that_the_file_has(
    folder: Path, images: Path
) -> None:
    model = load_exported(folder)
    labelled = read_labelled(model, images)
    own = list(model.net.thresholds.values())
    points = [{"thresholds": own}, {"thresholds": [0.31 + 0.07 * k for k in range(len(own))]}]
    found = candidates(model, labelled, points, ACCURACY)
    for point in points:
        known = held_out(model, labelled, point["thresholds"], ACCURACY)
        assert within(found, known["macs_mean"]).accuracy >= known["accuracy"]


def test_what_is_chosen_stays_in_a_file_that_carries_few_points() -> None:
    front = [Found([float(k)], k / 100, float(k * k)) for k in range(40)]
    for chosen in front:
        few = few_of(front, chosen)
        assert chosen in few
        assert len(few) <= 9
        assert (few[0], few[-1]) == (front[0], front[-1])


def test_exits_are_chosen_again_where_all_images_leave_at_one() -> None:
    values, _ = NETS["multi_exit"]
    net = scrambled(Candidate.of(family("multi_exit"), values, 2).build(TASK, 0)).float().eval()
    knobs = Knobs(policy="always_on", exit_rule="margin", exit_thresholds=(0.9, -1.0, 0.4))
    images = Labelled(torch.rand(60, 1, 16, 16), torch.arange(60) % 3)
    found = candidates(Model(generic.deploy(net, [(knobs, {})]), {}), images, [], ACCURACY)
    assert {tuple(one.thresholds[1:]) for one in found} == {(-1.0, 0.4)}
