"""Training on kept features: the same network, the same answers, in a fraction of the time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search.measure.operating_points import operating_points
from search.run.data import task_of
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.recipe import Recipe
from spaces.contract.registry import family
from spaces.exits.frozen_trunk import FrozenTrunkNet
from trainers import feature_split, frozen
from trainers.data.augment import normalized
from trainers.data.splits import DataSpec, ImageData, load
from trainers.evaluate import evaluate
from trainers.execution import Execution
from trainers.feature_files import FeatureFiles
from trainers.feature_split import FeatureSplit
from trainers.fit import fit
from trainers.frozen import frozen_data

VALUES = {"backbone": "test_resnet", "trunk": "frozen", "dynamics": "exits", "exits": "linear"}


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load(DataSpec(source="digits", train_limit=256, validation_limit=128, image_size=16))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings that are logged."""
    found: list[str] = []
    monkeypatch.setattr(frozen.logger, "warning", lambda text, *_: found.append(text))
    return found


def candidate(**values: Any) -> Candidate:
    return Candidate.of(family("timm"), {"lr": 0.02, "batch": 64, **VALUES, **values}, 3)


def built(images: ImageData, **values: Any) -> FrozenTrunkNet:
    net = candidate(**values).build(task_of(images), 0)
    assert isinstance(net, FrozenTrunkNet)
    return net


def features(
    net: FrozenTrunkNet, images: ImageData, folder: Path | None, views: int = 2, limit: int = 10**8
) -> ImageData | None:
    files = None if folder is None else FeatureFiles(folder, limit)
    return frozen_data(net, images, views=views, files=files, execution=Execution())


@pytest.mark.parametrize("reads", ["own", "all"])
def test_points_measured_on_features_are_those_of_the_whole_network(
    images: ImageData, tmp_path: Path, reads: str
) -> None:
    net = built(images, exit_reads=reads)
    data = features(net, images, tmp_path)
    assert data is not None
    results = list(fit(net, data, candidate().recipe, seed=1))
    assert results[-1].metrics["val/accuracy"] > 0.3
    points = operating_points(net, data, Recipe(batch=64), execution=Execution(), seed=1)
    assert len(points) > 5
    for point in points:
        table = evaluate(net, images.validation, images, Knobs(**point.knobs))
        compact = evaluate(net, images.validation, images, Knobs(**point.knobs), compact=True)
        assert point.accuracy == table.accuracy == compact.accuracy
        assert point.macs_mean == table.macs_mean


def test_gates_at_exits_behind_a_frozen_trunk_are_measured_on_features(images: ImageData) -> None:
    net = built(images, exits="light", exit_decision="gate")
    data = features(net, images, None)
    assert data is not None
    assert list(fit(net, data, candidate().recipe, seed=1))
    points = operating_points(net, data, Recipe(batch=64), execution=Execution(), seed=1)
    assert any(point.knobs.get("tau") == 0.3 for point in points)
    assert not any("recalibrate" in point.knobs for point in points)


def test_training_features_are_those_of_the_images_in_half_precision(
    images: ImageData, tmp_path: Path
) -> None:
    net = built(images)
    data = features(net, images, tmp_path, views=1)
    assert data is not None
    kept = next(data.train.batches(32)).images
    pixels = normalized(next(images.train.batches(32)).images, images.mean, images.std)
    with torch.no_grad():
        whole = torch.cat(net.eval().features(pixels, net.reads), 1)
    torch.testing.assert_close(kept, whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("flip", [True, False])
def test_views_are_of_the_size_that_is_tested_and_the_first_is_its_centre(flip: bool) -> None:
    spec = DataSpec(
        source="digits", train_limit=64, validation_limit=32, image_size=16, crop_pct=0.8
    )
    images = replace(load(spec), flip=flip)
    larger = next(images.train.batches(64)).images
    assert larger.shape == (64, 1, 20, 20)
    first, second, third = (frozen.seen_in(view, larger, 0, images) for view in range(3))
    assert torch.equal(first, larger[..., 2:-2, 2:-2])
    assert torch.equal(second, first.flip(3)) == flip
    assert third.shape == first.shape
    black = torch.zeros_like(larger)
    black[..., :2, :] = 255  # outside the centre
    assert frozen.seen_in(2, black, 0, images).any()
    data = features(built(images), images, None)
    assert data is not None
    assert (
        next(data.train.batches(8)).images.shape[1]
        == next(data.validation.batches(8)).images.shape[1]
    )


def test_a_trial_of_the_same_trunk_computes_nothing(
    images: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features(built(images, gated=False), images, tmp_path)

    def none(*args: object) -> None:
        raise AssertionError("features were computed again")

    monkeypatch.setattr(FrozenTrunkNet, "features", none)
    assert features(built(images), images, tmp_path) is not None
    assert features(built(images, gated=False, truncated=0), images, tmp_path) is not None


def test_other_weights_and_other_images_have_features_of_their_own(
    images: ImageData, tmp_path: Path
) -> None:
    net = built(images, gated=False)
    features(net, images, tmp_path, views=1)
    count = len(list(tmp_path.glob("*.npy")))
    with torch.no_grad():
        net.model.layer1[0].conv1.weight[0] += 1.0
    features(net, images, tmp_path, views=1)
    # the stem's place and those behind the changed block
    assert len(list(tmp_path.glob("*.npy"))) == 2 * count
    others = replace(images, train=images.validation)
    features(net, others, tmp_path, views=1)
    assert len(list(tmp_path.glob("*.npy"))) == 2 * count + count // 2


def test_each_epoch_draws_a_view_of_each_image(images: ImageData, tmp_path: Path) -> None:
    data = features(built(images, gated=False), images, tmp_path, views=4)
    assert data is not None
    train = data.train
    assert isinstance(train, FeatureSplit)
    assert len(train.views) == 4
    first, same, other = (
        torch.cat([b.images for b in train.batches(64, shuffle=seed)]) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    order = train._orders(256, 1, False)[0]
    drawn = np.array(
        [
            [np.array_equal(first[place], np.float32(view[0][image])) for view in train.views]
            for place, image in enumerate(order.tolist())
        ]
    )
    assert drawn.mean(0).min() > 0.15
    assert not torch.equal(first, other)


def test_without_room_on_the_disk_features_are_held_in_memory(
    images: ImageData, tmp_path: Path, said: list[str]
) -> None:
    small = features(built(images), images, tmp_path, limit=1000)
    assert "held in memory" in said[0]
    kept = features(built(images), images, tmp_path)
    assert small is not None
    assert kept is not None
    pairs = zip(small.train.batches(64, shuffle=3), kept.train.batches(64, shuffle=3), strict=True)
    assert all(torch.equal(a.images, b.images) for a, b in pairs)


def test_without_any_room_the_network_trains_on_images_its_trunk_frozen(
    images: ImageData, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(frozen, "MEMORY", 1000)
    net = built(images)
    assert features(net, images, None) is None
    assert "each trial computes them anew" in said[0]
    before = net.model.conv1[0].weight.clone()
    results = list(fit(net, images, replace(candidate().recipe, epochs=1), seed=1))
    assert len(results) == 1
    assert torch.equal(net.model.conv1[0].weight, before)


def test_features_beyond_half_precision_are_not_kept(images: ImageData) -> None:
    net = built(images, gated=False)
    with torch.no_grad():
        net.model.layer4[-1].bn2.bias.fill_(1e6)
    assert features(net, images, None) is None


def test_rows_that_are_too_many_to_hold_are_read_from_their_files(
    images: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = built(images, exit_reads="all")
    held, mapped = (features(net, images, tmp_path) for _ in range(2))
    assert held is not None
    assert mapped is not None
    for data in (held, mapped):
        monkeypatch.setattr(feature_split, "HELD", 2**28 if data is held else 0)
        assert (data.train._held is None) == (data is mapped)  # type: ignore[attr-defined]
        assert (data.validation._held is None) == (data is mapped)  # type: ignore[attr-defined]
    for ours, theirs in ((held.train, mapped.train), (held.validation, mapped.validation)):
        pairs = zip(ours.batches(64, shuffle=3), theirs.batches(64, shuffle=3), strict=True)
        assert all(torch.equal(a.images, b.images) for a, b in pairs)
