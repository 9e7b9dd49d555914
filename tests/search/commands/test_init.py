"""`dynafront init`: a study file that fits somebody's images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from PIL import Image

from search.commands.first_look import Look
from search.commands.init import as_yaml, name_of, useful_sides
from search.commands.plan import plan, reasons
from search.commands.plan_networks import FOR_LARGE_IMAGES, FOR_PHOTOS, FOR_SMALL_IMAGES, trained
from search.run.data import load_data
from search.spec import parse_study, read_study
from tests.search.conftest import dynafront

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNAFRONT_DATA", str(tmp_path / "cache"))
    load_data.cache_clear()
    return tmp_path


def fill(folder: str, size: tuple[int, int], **counts: int) -> None:
    draw = np.random.default_rng(0)
    for name, count in counts.items():
        (Path(folder) / name).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path(folder) / name / f"{i}.png")


def looked(**values: Any) -> Look:
    found: dict[str, Any] = {
        "source": "folder:x",
        "counts": {"a": 500, "b": 500},
        "side": 32,
        "one_size": (32, 32),
        "aspect": 1.0,
        "gray": False,
        "has_test": True,
        "broken": 0,
        "notes": (),
    }
    return Look(**found | values)


@pytest.mark.slow
def test_the_file_for_plain_images_passes_check(here: Path) -> None:
    for part in ("train", "test"):
        fill(f"pets/{part}", (24, 24), ant=30, bee=40)
    result = dynafront("init", "pets", "--hours", "0.01")
    assert result.exit_code == 0, result.output
    assert "70 images in 2 classes, RGB, all of one size, shorter side 24 pixels" in result.output
    spec, text = read_study(Path("my-images.yml"))
    assert (spec.study, spec.data, spec.image_size) == ("pets", "folder:pets", 24)
    assert spec.class_weights == "none"
    assert not spec.skip_broken
    assert "\ntest:" not in text
    assert spec.budget.hours == 0.01
    assert not Path("dynafront-data").exists()
    checked = dynafront("check", "my-images.yml")
    assert checked.exit_code == 0, checked.output


@pytest.mark.slow
def test_uneven_long_broken_images_without_test_get_their_keys(here: Path) -> None:
    fill("my pets", (40, 90), ant=12, bee=50)
    Path("my pets/bee/broken.png").write_bytes(b"broken")
    result = dynafront("init", "my pets", "--hours", "0.01", "--out", "new/mine.yml")
    assert result.exit_code == 0, result.output
    assert "skip_broken: true: 1 image cannot be decoded" in result.output
    assert "the classes have 12 to 50 images" in result.output
    spec, text = read_study(Path("new/mine.yml"))
    assert (spec.study, spec.data) == ("my-pets", "folder:my pets")
    assert spec.image_size == 32
    assert spec.resize == "pad"
    assert spec.class_weights == "balanced"
    assert spec.skip_broken
    assert "\ntest: 0.2" in text
    assert dynafront("check", "new/mine.yml").exit_code == 0


@pytest.mark.slow
def test_parquet_files_are_found(here: Path) -> None:
    draw, images = np.random.default_rng(0), []
    for _ in range(40):
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (16, 16), dtype=np.uint8)).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": None})
    Path("set/data").mkdir(parents=True)
    table = pa.table({"image": images, "label": [i % 2 for i in range(40)]})
    pq.write_table(table, "set/data/train-0.parquet")
    result = dynafront("init", "set", "--hours", "0.01", "--name", "other")
    assert result.exit_code == 0, result.output
    spec, _ = read_study(Path("my-images.yml"))
    assert (spec.study, spec.data, spec.image_size) == ("other", "parquet:set", 16)


def test_a_file_is_overwritten_only_where_that_is_asked_for(here: Path) -> None:
    Path("my-images.yml").write_text("mine")
    result = dynafront("init", "digits")
    assert result.exit_code == 2
    assert "my-images.yml is there already; --force overwrites it" in result.output
    assert Path("my-images.yml").read_text() == "mine"
    assert dynafront("init", "digits", "--hours", "0.01", "--force").exit_code == 0
    assert read_study(Path("my-images.yml"))[0].data == "digits"


@pytest.mark.parametrize(
    ("path", "message"), [("nowhere", "does not exist"), ("empty", "no class folders")]
)
def test_where_no_images_are_it_says_so(here: Path, path: str, message: str) -> None:
    Path("empty").mkdir()
    result = dynafront("init", path)
    assert result.exit_code == 2
    assert message in result.output.splitlines()[-1]
    assert not Path("my-images.yml").exists()


def test_more_time_buys_larger_networks_and_longer_trainings() -> None:
    def speed(networks: Any, side: int, batch: int) -> float:
        return 2.0 ** FOR_SMALL_IMAGES.index(networks)

    plans = [plan(looked(), hours, speed) for hours in (0.01, 0.5, 2, 10, 100)]
    order = [FOR_SMALL_IMAGES.index(one.networks) for one in plans]
    assert order == sorted(order)
    assert (order[0], order[-1]) == (0, len(FOR_SMALL_IMAGES) - 1)
    assert [one.epochs for one in plans] == sorted(one.epochs for one in plans)
    assert plans[0].tight
    assert not plans[-1].tight
    assert plans[-1].trials > plans[0].trials


def test_large_images_get_networks_for_large_images() -> None:
    found = plan(looked(one_size=None, side=300), 2, lambda *_: 1.0)
    assert found.networks in FOR_LARGE_IMAGES


@pytest.mark.parametrize(
    ("own", "sides"),
    [
        (300, (96, 128, 160)),
        (224, (96, 128, 160)),
        (130, (64, 96, 128)),
        (100, (64, 96)),
        (70, (64,)),
        (28, (24,)),
    ],
)
def test_of_photos_several_sizes_are_searched_and_of_small_images_their_own(
    own: int, sides: tuple[int, ...]
) -> None:
    found = plan(looked(one_size=None, side=own), 2, lambda *_: 1.0)
    assert found.sides == sides
    assert parse_study(as_yaml(found, "s"), "s.yml").image_sizes == sides
    told = f"image_size: {list(sides) if len(sides) > 1 else sides[0]}: "
    assert any(line.startswith(told) for line in reasons(found))


def test_several_sizes_of_images_leave_less_time_for_each_training() -> None:
    large = plan(looked(one_size=None, side=300), 0.2, lambda *_: 1.0)
    once = plan(looked(), 0.2, lambda *_: 1.0)
    trainings = large.networks.sizes * (0.36 + 0.64 + 1) + 8 * 2 / 3
    assert large.epochs == int(720 / (1.5 * trainings))
    assert once.epochs == int(720 / (1.5 * (once.networks.sizes + 8)))


@pytest.mark.parametrize("networks", [*FOR_SMALL_IMAGES, *FOR_LARGE_IMAGES])
def test_every_choice_of_networks_makes_a_file_that_is_one(networks: Any) -> None:
    found = plan(looked(), 2, lambda *_: 1.0)
    object.__setattr__(found, "networks", networks)
    spec = parse_study(as_yaml(found, "s"), "s.yml")
    assert spec.space[networks.family].keys() >= networks.space.keys()


@pytest.mark.parametrize(
    "source", ["folder:a b", "folder:a: b", "folder:x #y", 'folder:"q"', "folder:C\\d"]
)
def test_any_path_stands_in_the_file_as_it_is(source: str) -> None:
    found = plan(looked(source=source), 2, lambda *_: 1.0)
    assert parse_study(as_yaml(found, "2024"), "s.yml").data == source


@pytest.mark.parametrize("name", ["true", "2024", "1e3", "x"])
def test_a_name_that_looks_like_a_number_stays_a_name(name: str) -> None:
    assert parse_study(as_yaml(plan(looked(), 2, lambda *_: 1.0), name), "s.yml").study == name


def test_a_name_is_made_of_the_folder(here: Path) -> None:
    assert name_of("data/My Pets (2)") == "My-Pets-2"
    assert name_of("folder:~/été") == "t"


PHOTOS: dict[str, Any] = {"one_size": None, "side": 300}


@pytest.mark.parametrize("number", range(len(FOR_PHOTOS)))
def test_photos_get_networks_with_published_weights_and_the_recipe_for_them(number: int) -> None:
    wanted = FOR_PHOTOS[number].trained
    found = plan(looked(**PHOTOS), 200, lambda *_: 1.0, lambda name: name == wanted)
    spec = parse_study(as_yaml(found, "photos"), "s.yml")
    own = spec.space["timm"]
    assert (own["backbone"], own["pretrained"], own["dynamics"]) == (wanted, True, "both")
    assert (spec.budget.epochs, spec.budget.warm_epochs) == (15, 5)
    recommended = yaml.safe_load((ROOT / "studies/pretrained.yml").read_text())["space"]["timm"]
    chosen = ("backbone", "batch", "augment")
    assert {k: v for k, v in own.items() if k not in chosen} == {
        k: v for k, v in recommended.items() if k not in chosen
    }
    assert f"families: timm: {wanted} with its published weights" in "\n".join(reasons(found))


def test_photos_without_weights_to_be_had_start_from_random_ones_and_are_told_so() -> None:
    found = plan(looked(**PHOTOS), 2, lambda *_: 1.0)
    assert found.networks in FOR_LARGE_IMAGES
    assert any("studies/pretrained.yml" in line for line in reasons(found))
    for small in (looked(), looked(**PHOTOS, gray=True)):
        with_weights = plan(small, 2, lambda *_: 1.0, lambda _: True)
        assert not with_weights.networks.trained
        assert not any("published" in line for line in reasons(plan(looked(), 2, lambda *_: 1.0)))


@pytest.mark.parametrize("weights", ["", "mine.safetensors"])
@pytest.mark.parametrize("hours", [200, 0.5])
def test_a_model_to_start_from_is_taken_frozen_where_the_time_is_short(
    weights: str, hours: float
) -> None:
    start = trained("tf_efficientnet_lite0", weights)
    found = plan(looked(**PHOTOS), hours, lambda *_: 100.0, start=start)
    spec = parse_study(as_yaml(found, "photos"), "s.yml")
    own, frozen = spec.space["timm"], hours < 1
    assert own["backbone"] == "tf_efficientnet_lite0"
    assert own.get("pretrained", False) == (not weights)
    assert spec.init_from == (weights or None)
    assert own.get("trunk") == ("frozen" if frozen else None)
    assert own["dynamics"] == ("exits" if frozen else "both")
    assert spec.budget.warm_epochs == (None if frozen else 5)
    whose = "the weights in mine.safetensors" if weights else "its published weights"
    said = "\n".join(reasons(found))
    assert f"families: timm: tf_efficientnet_lite0 with {whose}" in said
    assert ("they stay as they are" in said) == frozen
    assert spec.interpolation == "bicubic"
    assert spec.crop_pct == 0.875


def test_images_whose_features_take_too_long_are_left_out_the_largest_first() -> None:
    start = trained("tf_efficientnet_lite0", "mine.safetensors")
    plans = [
        plan(looked(**PHOTOS), hours, lambda *_: 100.0, start=start) for hours in (0.5, 0.05, 0.01)
    ]
    assert [one.sides for one in plans] == [(96, 128, 160), (96, 128), (96,)]
    assert [one.tight for one in plans] == [False, False, True]
    assert any(
        "image_size: [96, 128]: of 160 pixels, computing" in line for line in reasons(plans[1])
    )


def test_a_side_at_which_networks_cost_what_they_do_at_the_next_is_left_out() -> None:
    found = plan(looked(side=130, one_size=None), 200, lambda *_: 1.0)
    assert (found.networks.family, found.sides) == ("gated_mobilenet", (64, 96, 128))
    assert useful_sides(found) == (64, 128), "smaller patches of 96 pixels are as many"
    start = trained("mobilenetv2_100", "mine.safetensors")
    found = plan(looked(side=130, one_size=None), 200, lambda *_: 1.0, start=start)
    assert useful_sides(found) == found.sides == (64, 96, 128)


def test_small_images_become_larger_for_a_model_that_knows_photos() -> None:
    found = plan(looked(), 200, lambda *_: 1.0, start=trained("mobilenetv2_100"))
    assert found.sides == (64, 96)
    assert any("larger than the images" in line for line in reasons(found))
    assert plan(looked(), 200, lambda *_: 1.0).sides == (32,)


def test_a_budget_of_latency_is_what_is_searched() -> None:
    found = plan(looked(), 200, lambda *_: 1.0)
    spec = parse_study(as_yaml(found, "pets", 4.5), "s.yml")
    assert spec.objectives == ("accuracy", "latency")
    assert (spec.latency, spec.region.max_latency_ms) == ("pets-latency.json", 4.5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--weights", __file__), "--weights needs --backbone"),
        (("--backbone", "mobilenetv2_10"), "mobilenetv2_10 is not a timm model; did you mean"),
    ],
)
def test_what_is_wrong_with_a_model_is_said_before_images_are_read(
    flags: tuple[str, ...], message: str
) -> None:
    result = dynafront("init", "nothing", *flags)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.slow
def test_the_file_for_a_model_passes_check_and_says_to_profile_first(here: Path) -> None:
    for part in ("train", "test"):
        fill(f"pets/{part}", (70, 70), ant=12, bee=12)
    torch.save(timm.create_model("mobilenetv2_050", num_classes=7).state_dict(), "mine.pth")
    flags = ("--backbone", "mobilenetv2_050", "--weights", "mine.pth", "--hours", "0.001")
    result = dynafront("init", "pets", *flags, "--max-latency-ms", "3")
    assert result.exit_code == 0, result.output
    assert "dynafront profile my-images.yml" in result.output
    spec, _ = read_study(Path("my-images.yml"))
    assert spec.init_from == "mine.pth"
    assert spec.space["timm"]["trunk"] == "frozen"
