"""What an inspection measures, draws and hands on."""

from __future__ import annotations

import io
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from search.cli import main
from search.inspection import QUICK, Effort, Inspection, inspected, inspection_of
from search.inspection_layers import layer_moves, pixels_of
from search.inspection_page import inspection_html
from search.inspection_plots import pictures
from search.inspection_words import between_places, sections
from search.trial import loaded, task_of
from spaces.net import DynamicNet, Knobs
from spaces.policies import AlwaysOn
from spaces.registry import family
from storage.store import Store
from trainers.augment import normalized
from trainers.data import DataSpec, ImageData
from trainers.evaluate import exit_logits

VIT = {"layers": 3, "dim": 32, "head_dim": 16, "mlp_ratio": 1, "patch": 2}
EFFORT = Effort(images=120, moved=16, shown=3, samples=3, side=32, umap=False)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return loaded(DataSpec(source="digits", train_limit=64))


@lru_cache(maxsize=8)
def _built(name: str, values: str) -> DynamicNet:
    own = family(name)
    torch.manual_seed(0)
    net = own.build(own.config(**json.loads(values)), task_of(loaded(DataSpec(source="digits", train_limit=64))))
    return net.eval()


def network(name: str, **values: Any) -> DynamicNet:
    return _built(name, json.dumps(values))


def joint() -> DynamicNet:
    return network("gated_resnet", backbone="resnet8", width=0.25, granularity="joint", channel_group=1)


@lru_cache(maxsize=1)
def halves() -> Knobs:
    """Thresholds at which each gate of the untrained joint network is open for about half of the images."""
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        decisions = joint().run(images, Knobs(tau=0.0)).decisions
    return Knobs(tau={d.gate.name: float(d.p_BU.median()) for d in decisions if d.p_BU is not None})


def exits() -> DynamicNet:
    return network("multi_exit", backbone="resnet18", width=0.125, exits="scan", attention="depthwise")


@lru_cache(maxsize=1)
def leaving() -> Knobs:
    """Thresholds at which about half of the images are sure enough at each exit of the untrained network."""
    images = loaded(DataSpec(source="digits", train_limit=64))
    raw = exit_logits(exits(), images.validation, images, Knobs(policy="always_on"))
    sure = [float(logits.softmax(1).amax(1).median()) for logits in raw.logits[:-1]]
    return Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=tuple(sure))


CASES: dict[str, tuple[Any, Knobs, set[str]]] = {
    "joint": (joint, halves(), {"images", "class_rates", "skip_patterns"}),
    "exits": (exits, leaving(), {"images", "exits", "attention"}),
    "dense": (lambda: network("dense_vit", aggregator="wsdc", **VIT), Knobs(policy="always_on"), {"layer_mixing"}),
    "shuffled": (lambda: network("shuffled_vit", **VIT), Knobs(policy="always_on"), {"layer_moves", "embedding"}),
    "plain": (lambda: network("gated_resnet", backbone="resnet8", width=0.25, gated=False), Knobs(), set()),
}


def found_of(case: str, data: ImageData) -> Inspection:
    make, knobs, _ = CASES[case]
    return inspected(make(), data, knobs, effort=EFFORT)


@pytest.mark.parametrize("case", CASES)
def test_only_what_applies_is_shown_and_every_picture_is_one(case: str, data: ImageData) -> None:
    found = found_of(case, data)
    names = {one.name for one in sections(found)}
    assert names == CASES[case][2]
    drawn = pictures(found, "a network")
    assert set(drawn) == names
    for png in drawn.values():
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        assert picture.shape[1] > 1000
        assert picture.std() > 5, "something is drawn"
    page = inspection_html(found, "a <b>network</b>")
    assert set(re.findall(r'<section id="(\w+)"', page)) == names
    assert "a &lt;b&gt;network" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "it loads nothing"
    assert len(page) < 300_000


@pytest.mark.parametrize("case", CASES)
def test_measures_survive_json_and_stay_small(case: str, data: ImageData) -> None:
    make, knobs, _ = CASES[case]
    found = inspected(make(), data, knobs, effort=QUICK)
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert len(text) < 60_000
    assert inspection_of(json.loads(text)) == found


@pytest.mark.parametrize("other", [None, {}, {"error": "RuntimeError: no"}, {"images": "many"}])
def test_what_is_no_inspection_is_none(other: Any) -> None:
    assert inspection_of(other) is None


def test_rates_by_class_agree_with_the_network_asked_directly(data: ImageData) -> None:
    net = joint()
    every = inspected(net, data, halves(), effort=Effort(images=10**6, side=8, umap=False))
    assert every.class_rates is not None
    images, labels = data.validation.pixels, data.validation.labels
    ((_, raw),) = images.batches([torch.arange(len(labels))], torch.device("cpu"))
    with torch.inference_mode():
        output = net.run(normalized(raw, data.mean, data.std), halves())
    by_name = {d.gate.name: d.open_BU.double() for d in output.decisions}
    name = data.classes[3]
    row = every.class_rates.rates[every.class_rates.classes.index(name)]
    here = labels == 3
    layer, inner = by_name["block1.layer"], by_name["block1.inner"]
    assert row[every.class_rates.gates.index("block1")] == pytest.approx(float(layer[here].mean()), abs=1e-3)
    computed = float((layer * inner)[here].mean())
    assert row[every.class_rates.gates.index("block1 filters")] == pytest.approx(computed, abs=1e-3)
    assert every.macs_mean == pytest.approx(float(output.macs_B.mean()))
    assert [np.mean(r) for r in every.class_rates.rates] == sorted(np.mean(r) for r in every.class_rates.rates)


def test_patterns_are_counted_with_the_accuracy_of_those_who_take_them(data: ImageData) -> None:
    found = inspected(joint(), data, halves(), effort=Effort(images=10**6, side=8, umap=False))
    assert found.patterns is not None
    rows = found.patterns.rows
    assert [row.share for row in rows] == sorted((row.share for row in rows), reverse=True)
    assert len({row.open for row in rows}) == len(rows)
    if len(rows) == found.patterns.distinct:
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert sum(row.share * row.accuracy for row in rows) == pytest.approx(found.accuracy)
        assert sum(row.share * row.macs for row in rows) == pytest.approx(found.macs_mean)


def test_exits_account_for_every_image_and_all_of_its_macs(data: ImageData) -> None:
    found = found_of("exits", data)
    assert found.exits is not None
    used = found.exits.exits
    assert [one.name for one in used] == ["exit0", "exit1", "exit2", "deepest"]
    assert sum(one.share for one in used) == pytest.approx(1)
    assert sum(one.share * (one.accuracy or 0) for one in used) == pytest.approx(found.accuracy)
    assert sum(one.share * one.macs for one in used) == pytest.approx(found.macs_mean)
    assert [one.macs for one in used] == sorted(one.macs for one in used)
    for row in found.exits.by_class:
        assert sum(row) == pytest.approx(1, abs=0.01)


def test_an_exit_that_answers_nobody_has_no_accuracy(data: ImageData) -> None:
    nobody = Knobs(policy="always_on", exit_rule="maxprob", exit_thresholds=(1.0, 1.0, 1.0))
    found = inspected(exits(), data, nobody, effort=EFFORT)
    assert found.exits is not None
    assert [one.accuracy is None for one in found.exits.exits] == [True, True, True, False]
    assert found.extremes is None, "every image costs the same"
    assert {one.name for one in sections(found)} == {"exits", "attention"}
    assert set(pictures(found, "n")) == {"exits", "attention"}


def test_attention_maps_are_those_of_the_exits_and_no_hook_stays(data: ImageData) -> None:
    net, found = exits(), found_of("exits", data)
    assert found.attention is not None
    assert [one.exit for one in found.attention.exits] == ["exit0", "exit1", "exit2"]
    assert [pixels_of(one.maps[0]).shape for one in found.attention.exits] == [(8, 8), (4, 4), (2, 2)]
    for one in found.attention.exits:
        assert 0 <= one.low <= one.high <= 1, "a mean of sigmoids"
        assert len(one.maps) == len(found.attention.samples)
    assert not any(module._forward_hooks for module in net.modules())


def test_extremes_are_the_cheapest_and_dearest_images(data: ImageData) -> None:
    found = found_of("joint", data)
    assert found.extremes is not None
    cheap, dear = ([shot.macs for shot in part] for part in (found.extremes.cheapest, found.extremes.dearest))
    assert cheap == sorted(cheap)
    assert dear == sorted(dear, reverse=True)
    assert cheap[-1] <= found.macs_mean <= dear[0]
    assert pixels_of(found.extremes.cheapest[0].png).shape == (8, 8)


def test_mixtures_are_means_of_weights_that_sum_to_one(data: ImageData) -> None:
    found = found_of("dense", data)
    assert found.mixtures is not None
    for rows in (found.mixtures.right, found.mixtures.wrong):
        assert rows is not None
        assert [len(row) for row in rows] == [2, 3]
        for row in rows:
            assert sum(row) == pytest.approx(1, abs=0.005)


def test_every_image_sees_every_layer_at_every_place(data: ImageData) -> None:
    found = found_of("shuffled", data).moves
    assert found is not None
    counts, means = np.array(found.counts), np.array(found.means)
    assert counts.shape[:2] == (3, 3)
    assert found.images == 16
    assert (abs(counts.sum(2) - 16) <= 1).all(), "the rarest changes lie beyond the axis"
    assert means.mean(1) == pytest.approx(np.ones(3), abs=1e-3)
    assert found.embedding is not None
    assert [len(points) for points in found.embedding.points] == [16] * 3


def test_a_change_is_the_norm_of_what_the_layer_adds_to_the_class_token(data: ImageData) -> None:
    net = network("shuffled_vit", **(VIT | {"layers": 2}))
    pixels = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    changes: dict[int, list[float]] = {0: [], 1: []}
    with torch.inference_mode():
        found = layer_moves(net, pixels)
        for order in ((0, 1), (1, 0)):
            u = net.stem(pixels)
            for layer in order:
                after = net.layers[layer](u)
                changes[layer].append(float((after - u)[:, 0].norm()))
                u = after
        assert torch.equal(net(pixels, AlwaysOn()).logits_BC, net(pixels).logits_BC)
    assert found is not None
    assert found.norms == pytest.approx([np.mean(changes[0]), np.mean(changes[1])], rel=1e-3)
    assert found.means[0] == pytest.approx(np.array(changes[0]) / np.mean(changes[0]), rel=1e-3)
    assert found.means[1] == pytest.approx(np.array(changes[1])[::-1] / np.mean(changes[1]), rel=1e-3)


def test_points_that_lie_by_place_are_found_to_do_so() -> None:
    from search.inspection_layers import Embedding

    apart = Embedding(0, "PCA", [[(0.0, 0.0), (0.0, 0.0)], [(1.0, 0.0), (1.0, 0.0)]], 1.0)
    alike = Embedding(0, "PCA", [[(0.0, 0.0), (1.0, 0.0)], [(0.0, 0.0), (1.0, 0.0)]], 1.0)
    assert between_places(apart) == 1
    assert between_places(alike) == 0


@pytest.mark.slow
def test_inspect_writes_pictures_and_a_page(in_finished: Path, tmp_path: Path) -> None:
    arguments = ["inspect", "tiny", "--trial", "0", "--out", str(tmp_path / "seen")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    files = {path.name for path in (tmp_path / "seen").iterdir()}
    assert {"inspect.html", "class_rates.png", "gate_rates.png"} <= files
    assert "validation images" in result.output
    both = CliRunner().invoke(main, ["inspect", "tiny", "--trial", "0", "--pick", "best"])
    assert both.exit_code == 2
    assert "either --trial or --pick" in both.output


@pytest.mark.slow
def test_mlflow_shows_what_the_worker_measured(in_finished: Path) -> None:
    import mlflow

    folder = in_finished / "dynafront-data"
    trials = Store.open(f"sqlite:///{folder}/dynafront.db").trials("tiny", kind="search")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    names = {file.path for file in client.list_artifacts(str(trials[0].run_id), "inspect")}
    assert {"inspect/inspect.html", "inspect/class_rates.png"} <= names
