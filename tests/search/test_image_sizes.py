"""A study of several sizes of images, from its file to the exported model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.commands.side_check import side_notes
from search.commands.study_check import check_candidates
from search.export.model import load_exported
from search.report.text import describing_params, network_text
from search.run.data import data_spec
from search.spec import narrowed_spaces, parse_study, stored_spec
from spaces.contract.task import Task
from storage.records import Kind, PointRecord
from storage.store import Store
from tests.search.conftest import dynafront

GOOD = "study: s\ndata: digits\nfamilies: [gated_resnet]\n"


@pytest.mark.parametrize(
    ("written", "sides", "data"),
    [("", (), None), ("64", (64,), 64), ("[64]", (64,), 64), ("[96, 64]", (64, 96), 96)],
)
def test_a_file_may_name_one_size_or_several(
    written: str, sides: tuple[int, ...], data: int | None
) -> None:
    spec = parse_study(GOOD + (f"image_size: {written}\n" if written else ""), "s.yml")
    assert spec.image_sizes == sides
    assert data_spec(spec).image_size == data
    assert stored_spec(json.loads(spec.model_dump_json())) == spec
    dimensions = [d for d in narrowed_spaces(spec)["gated_resnet"] if d.name == "image_size"]
    assert [d.choices for d in dimensions] == ([sides] if len(sides) > 1 else [])


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("image_size: [64, big]", "s.yml: image_size: 'big': input should be a valid integer, or a list"),
        ("image_size: [2, 64]", "s.yml: image_size: 2 is not between 4 and 4096"),
        ("image_size: []", "s.yml: image_size: an empty list"),
        ("image_size: [64, 64]", "s.yml: image_size: 64 stands there twice"),
        (
            "image_size: [64, 96]\nspace: {gated_resnet: {image_size: 32}}",
            "s.yml: space.gated_resnet.image_size: 32 is not one of 64, 96",
        ),
        (
            "image_size: 64\nspace: {gated_resnet: {image_size: [64, 96]}}",
            r"space.gated_resnet.image_size: only narrows a list .* write `image_size: \[64, 96, 128\]`",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_to_write(written: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_study(f"{GOOD}{written}\n", "s.yml")


def test_a_size_that_a_family_cannot_take_is_refused_before_anything_is_trained() -> None:
    text = GOOD.replace("gated_resnet", "gated_resnet, skip_vit") + "image_size: [8, 16, 32]\n"
    task = Task(channels=3, height=32, width=32, classes=2)
    spec = parse_study(f"{text}space: {{skip_vit: {{patch: 16}}}}\n", "s.yml")
    message = (
        "image_size: 8: patch: 16 pixels do not fit an image of 8x8; .*; "
        r"leave it out, or write `space: {skip_vit: {image_size: \[16, 32\]}}`"
    )
    with pytest.raises(ValueError, match=message):
        check_candidates(spec, narrowed_spaces(spec), task)
    for fits in ("{patch: 16, image_size: [16, 32]}", "{patch: [16, 8]}"):
        spec = parse_study(f"{text}space: {{skip_vit: {fits}}}\n", "s.yml")
        check_candidates(spec, narrowed_spaces(spec), task)


@pytest.mark.slow
def test_sizes_that_save_nothing_are_named_before_anything_is_trained() -> None:
    text = GOOD.replace("gated_resnet", "timm, gated_resnet")
    space = "space: {timm: {backbone: vit_tiny_patch16_224}}\n"
    task = Task(channels=3, height=224, width=224, classes=2)
    spaces = [
        narrowed_spaces(parse_study(f"{text}image_size: {sides}\n{space}", "s.yml"))
        for sides in ([64, 96, 160], [112, 160])
    ]
    (line,) = side_notes(spaces[0], task)
    assert line.startswith("timm costs about the same with images of 64 and 96 pixels: ")
    assert not list(side_notes(spaces[1], task))


def test_words_and_columns_name_the_size_where_it_is_searched() -> None:
    params = {"backbone": "resnet8", "width": 0.5, "image_size": 96}
    assert network_text("gated_resnet", params) == "gated_resnet resnet8 x0.5 at 96 px"
    assert (
        network_text("gated_resnet", {**params, "gated": False}) == "baseline resnet8 x0.5 at 96 px"
    )
    assert describing_params(["gated_resnet"], sides=True)[:3] == [
        "backbone",
        "width",
        "image_size",
    ]


STUDY = """\
study: sides
data: digits
families: [gated_resnet]
image_size: [8, 12]
space: {gated_resnet: {backbone: resnet8, width: 0.25, batch: 32, gate: dependent}}
budget: {trials: 2, epochs: 1}
train_limit: 256
run: {workers: 0, precision: float32, threads: 1, device: cpu}
"""


def of_side(points: list[PointRecord], side: int) -> PointRecord:
    return next(p for p in points if p.params["image_size"] == side)


@pytest.mark.slow
def test_points_of_all_sizes_are_on_one_front_and_each_is_exported_at_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yml").write_text(STUDY)
    checked = dynafront("check", "s.yml")
    assert "360 for test; 8 x 8, 12 x 12, gray; 10 classes" in checked.output
    found = dynafront("search", "s.yml")
    assert found.exit_code == 0, found.output
    assert "images of 8 and 12 pixels a side are tried" in found.output

    store = Store.open("sqlite:///dynafront-data/dynafront.db")
    points = store.points("sides", kind=Kind.SEARCH)
    small, large = of_side(points, 8), of_side(points, 12)
    baselines = store.points("sides", kind=Kind.BASELINE)
    macs = {side: of_side(baselines, side).macs_mean for side in (8, 12)}
    assert macs[12] > 2 * macs[8]

    for point, side in ((small, 8), (large, 12)):
        result = dynafront("export", "sides", "--point", point.id, "--out", str(side))
        assert result.exit_code == 0, result.output
        description = json.loads(Path(str(side), "model.json").read_text())
        assert (description["task"]["height"], description["task"]["width"]) == (side, side)
        assert description["params"]["image_size"] == side
        assert description["report"]["validation"]["macs_mean"] == point.macs_mean
        assert description["report"]["plain_macs"] == macs[side]
        assert f"(10 classes, {side} x {side}, gray)" in Path(str(side), "README.md").read_text()
        assert load_exported(Path(str(side))).net.task.height == side
    static = json.loads(Path("12/model.json").read_text())["report"]["static"]
    assert static["trained"]
    assert static["macs_mean"] in macs.values()
    assert f" at {8 if static['macs_mean'] == macs[8] else 12} px" in static["name"]
