"""A study on a frozen trunk: what a person gets of it, from the file to the exported model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console

from search.cli import main
from search.commands.estimate import _sizes
from search.commands.measured import measured
from search.commands.study_check import checked_study
from search.inspection.forward_pass import QUICK
from search.run.data import data_spec, load_data, task_of
from search.run.features import feature_store
from search.run.heartbeat import Steps
from search.run.speed import measured_speed
from search.schedule.static_nets import static_nets
from search.spec import narrowed_spaces, parse_study
from spaces.contract.net import Output
from spaces.families.timm_net import TimmNet
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store
from trainers.execution import Execution

STUDY = """
study: frozen
data: digits
families: [timm]
image_size: 16
init_from: {weights}
space:
  timm: {{backbone: test_resnet, trunk: frozen, dynamics: exits, exits: linear, batch: 64}}
budget: {{trials: 2, epochs: 2}}
train_limit: 300
validation_limit: 200
region: {{within: 1}}
run: {{workers: 0, threads: 1, device: cpu}}
"""


def dynafront(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.mark.slow
def test_a_frozen_study_from_its_file_to_a_model_of_the_reported_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("frozen.yml").write_text(STUDY.format(weights=weights))
    found = dynafront("search", "frozen.yml")
    assert found.exit_code == 0, found.output
    store = Store.open(Settings().database_url)
    baselines = store.trials("frozen", kind=Kind.BASELINE)
    assert [one.params.get("truncated") for one in baselines] == [None, 0, 1]
    assert all(one.params["trunk"] == "frozen" for one in baselines)
    points = {p.trial: p for p in store.points("frozen", kind=Kind.BASELINE)}
    assert points[1].macs_mean < points[2].macs_mean < points[0].macs_mean
    assert points[1].parameters < points[2].parameters < points[0].parameters
    files = list(Path("dynafront-data/features").glob("*.npy"))
    # two views and validation, of both places and the classifier, for all five trainings
    assert len(files) == 3 * 3
    # two files of heads a training, and the trunk once: whole, and ended behind each place
    kept = [one for one in Path("dynafront-data/checkpoints").rglob("*") if one.is_file()]
    assert sum(one.stat().st_size for one in kept) < 3 * weights.stat().st_size
    assert len([one for one in kept if one.suffix == ".shared"]) == 3
    assert all(
        "error" not in one.result["inspection"] for one in store.trials("frozen", kind=Kind.SEARCH)
    )
    front = json.loads(dynafront("front", "frozen", "--format", "json").output)
    assert front
    _pictures_come_of_features(store, monkeypatch)
    exported = dynafront("export", "frozen", "--pick", "best", "--out", "model")
    assert exported.exit_code == 0, exported.output
    report = json.loads(Path("model/model.json").read_text())["report"]
    assert report["onnx"]
    _a_point_is_exported_ended_at_its_first_exit(store)
    cleaned = dynafront("clean")
    assert "features of frozen trunks" in cleaned.output
    assert not list(Path("dynafront-data/features").glob("*.npy"))


def _a_point_is_exported_ended_at_its_first_exit(store: Store) -> None:
    point = next(p for p in store.points("frozen", kind=Kind.SEARCH) if "exit_rule" in p.knobs)
    chosen = ("export", "frozen", "--point", str(point.id), "--out", "small", "--exit")
    for wrong, message in (
        (
            ("3",),
            f"--exit 3: the network of trial {point.trial} has exits 1 to 2; give one of them",
        ),
        (("1", "--whole-curve"), "leave out --exit or --whole-curve"),
    ):
        refused = dynafront(*chosen, *wrong)
        assert refused.exit_code == 2
        assert message in refused.output
    exported = dynafront(*chosen, "1")
    assert exported.exit_code == 0, exported.output
    whole, small = (json.loads(Path(one, "model.json").read_text()) for one in ("model", "small"))
    assert small["network"]["ends_at"] == 0
    assert small["report"]["parameters"] < whole["report"]["parameters"]
    assert Path("small/model.onnx").stat().st_size < Path("model/model.onnx").stat().st_size
    validation, test = small["report"]["validation"], small["report"]["test"]
    assert validation["macs_mean"] == test["macs_mean"] == test["macs_max"] < point.macs_max
    assert store.exports("frozen")[-1].pick == f"point-{point.id}-exit-1"
    assert store.exports("frozen")[-1].point is None
    assert "It ends at exit 1" in Path("small/README.md").read_text()


def _pictures_come_of_features(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network does at a point of the front is measured as on images, without passing any."""
    record, settings = store.study("frozen"), Settings()
    point = next(p for p in store.points("frozen", kind=Kind.SEARCH) if "exit_rule" in p.knobs)
    slowly = measured(store, record, settings, point, str, QUICK)
    shapes: list[int] = []
    forward = TimmNet.forward

    def seen(self: TimmNet, images: torch.Tensor, *rest: object, **more: object) -> Output:
        shapes.append(images.ndim)
        return forward(self, images, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(TimmNet, "forward", seen)
        found = measured(store, record, settings, point, str, QUICK, feature_store(settings))
    assert set(shapes) == {2}
    assert (found.images, found.accuracy, found.macs_mean) == (
        slowly.images,
        slowly.accuracy,
        slowly.macs_mean,
    )
    assert found.parts.keys() == slowly.parts.keys()


def test_static_networks_of_every_size_are_trained_whole_and_ended_behind_each_stage(
    weights: Path,
) -> None:
    text = STUDY.format(weights=weights).replace("test_resnet", "[test_resnet, test_efficientnet]")
    spec = parse_study(text, "frozen.yml")
    task = task_of(load_data(data_spec(spec)))
    nets = [one.config for one in static_nets(spec, narrowed_spaces(spec), task)]
    cuts = {
        name: [n.truncated for n in nets if n.backbone == name]
        for name in ("test_resnet", "test_efficientnet")
    }
    assert cuts == {"test_resnet": [None, 0, 1], "test_efficientnet": [None, 0, 1, 2, 3, 4]}
    assert not any(one.gated for one in nets)
    assert {one.recipe.lr for one in static_nets(spec, narrowed_spaces(spec), task)} == {0.02}
    high = parse_study(text.replace("batch: 64", "lr: {low: 0.05}"), "frozen.yml")
    assert {one.recipe.lr for one in static_nets(high, narrowed_spaces(high), task)} == {0.05}
    finetuned = parse_study(text.replace("frozen,", "finetuned,"), "frozen.yml")
    assert list(static_nets(finetuned, narrowed_spaces(finetuned), task)) == []


@pytest.mark.parametrize(
    ("family", "space", "fix"),
    [
        ("timm", "trunk: frozen", "write `pretrained: true` beside it, or name a file in `init_from`"),
        ("timm", "trunk: [finetuned, frozen], pretrained: [false, true]", "write `pretrained: true`"),
        ("multi_exit", "trunk: frozen", "needs trained weights: name a file in `init_from`"),
    ],
)  # fmt: skip
def test_a_frozen_trunk_without_trained_weights_is_refused_with_the_fix(
    family: str, space: str, fix: str
) -> None:
    text = f"study: s\ndata: digits\nfamilies: [{family}]\nspace: {{{family}: {{{space}}}}}\n"
    with pytest.raises(ValueError, match=f"s.yml: space.{family}.trunk: frozen .*{fix}"):
        parse_study(text, "s.yml")
    parse_study(f"{text}init_from: weights.safetensors\n", "s.yml")


def test_a_family_without_such_a_trunk_does_not_have_the_dimension() -> None:
    text = "study: s\ndata: digits\nfamilies: [gated_features]\nspace: {gated_features: {trunk: frozen}}\n"
    with pytest.raises(ValueError, match="trunk: no such dimension"):
        parse_study(text, "s.yml")


@pytest.mark.slow
def test_check_counts_features_once_and_static_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = parse_study(STUDY.format(weights=weights), "frozen.yml")
    checked = checked_study(spec, Settings(), Steps(Console(quiet=True)))
    (size,) = _sizes(checked)
    assert size.statics == 3
    assert size.constant > 0.9 * (size.parameters - size.constant)
    # five trainings were ten times the whole network
    assert size.bytes_of(5) < 10 * 4 * size.parameters / 2
    frozen = measured_speed(size.dynamic, checked.task, data_spec(spec), Execution())
    assert frozen.once > 0
    config = replace(size.dynamic.config, trunk="finetuned")
    finetuned = replace(size.dynamic, config=config)
    assert measured_speed(finetuned, checked.task, data_spec(spec), Execution()).once == 0
