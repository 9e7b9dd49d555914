"""What is found before the first training, and what a study does when its images change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import search.commands.data_check as module
from search.cli import main
from search.commands.begun import as_begun
from search.commands.data_check import checked_data, few_text, uneven_text
from search.front.stored import study_front
from search.objectives import Reference
from search.report.no_front import no_front_text
from search.run.data import data_spec, load_data
from search.spec import BEFORE, StudySpec, parse_study, stored_spec
from storage.records import Kind, StudyRecord
from storage.store import Store
from tests.points import operating_point

STUDY = """\
study: mine
data: folder:images
families: [gated_features]
space: {gated_features: {hidden: 16, batch: 16, augment: false}}
sampler: random
warm_start: false
early_stopping: false
budget: {trials: 1, epochs: 1}
validation: 0.25
run: {device: cpu, precision: float32, threads: 1}
"""
FEW = "validation images are few"


def noise(file: Path, value: int) -> None:
    pixels = np.random.default_rng(value).integers(0, 100, (8, 8, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels + (120 if "bee" in str(file) else 0)).save(file)


def fill(*parts: str, **counts: int) -> None:
    for part in parts:
        for c, (name, count) in enumerate((counts or {"ant": 8, "bee": 8}).items()):
            for i in range(count):
                noise(Path("images") / part / name / f"{i}.png", 1000 * len(part) + 100 * c + i)


def dynafront(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with the study's file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNAFRONT_DATA", str(tmp_path / "cache"))
    Path("mine.yml").write_text(STUDY)
    load_data.cache_clear()
    return tmp_path


def study(more: str = "") -> StudySpec:
    return parse_study(STUDY + more, "mine.yml")


def checked(
    spec: StudySpec, before: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """What is recorded and what is said, but for what is said of these few images."""
    said: list[str] = []
    load_data.cache_clear()
    found = checked_data(spec, before or {}, said.append, Path("lists"))
    return found, [line for line in said if FEW not in line]


def test_a_gpu_that_is_not_there_is_one_line_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    fill("train", "test")
    Path("mine.yml").write_text(STUDY.replace("device: cpu", "device: cuda"))
    result = dynafront("search", "mine.yml")
    assert result.exit_code == 2
    assert "run.device: cuda: torch" in result.output
    assert "finds no GPU here; write `device: auto`" in result.output
    assert not Path("dynafront-data").exists()


def no_class(root: Path) -> None:
    for file in (root / "test" / "bee").iterdir():
        file.unlink()
    (root / "test" / "bee").rmdir()


def no_images(root: Path) -> None:
    for file in (root / "test" / "bee").iterdir():
        file.unlink()


def broken(root: Path) -> None:
    (root / "test" / "bee" / "3.png").write_bytes(b"broken")


def another(root: Path) -> None:
    noise(root / "test" / "cat" / "0.png", 0)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (no_class, "class 'bee' of train is not in test"),
        (no_images, "class 'bee' has no test images"),
        (another, "class 'cat' of test is not in train"),
        (broken, "images/test/bee/3.png: not an image that can be read"),
    ],
)
def test_what_export_would_stumble_over_is_one_line_and_writes_nothing(
    harm: Any, told: str
) -> None:
    fill("train", "test")
    harm(Path("images"))
    result = dynafront("search", "mine.yml")
    assert result.exit_code == 2
    assert told in result.output
    assert not Path("dynafront-data").exists()


def test_a_broken_image_is_told_with_the_key_that_leaves_it_out() -> None:
    fill("train", "test")
    for part in ("train", "test"):
        Path(f"images/{part}/ant/2.png").write_bytes(b"broken")
    with pytest.raises(
        ValueError, match=r"2\.png: not an image .*; `skip_broken: true` in the study"
    ):
        checked(study())
    _, said = checked(study("skip_broken: true\n"))
    assert said == [
        "1 broken image is left out: images/train/ant/2.png",
        "1 broken image is left out: images/test/ant/2.png",
        "all images that are left out: lists/mine-left-out.txt",
    ]
    listed = Path("lists/mine-left-out.txt").read_text().splitlines()
    assert listed == ["images/train/ant/2.png", "images/test/ant/2.png"]


def test_a_broken_image_of_a_set_that_is_streamed_is_found_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import trainers.data.splits as splits

    fill("train", "test", ant=6, bee=6)
    Path("images/train/bee/5.png").write_bytes(b"broken")
    monkeypatch.setattr(splits, "channel_statistics", lambda *_: ((0.5,) * 3, (0.5,) * 3))
    monkeypatch.setattr(module, "data_spec", lambda spec: streamed(spec))
    header = splits.shapes_of

    def shapes(
        images: Any, size: Any, resize: Any, **more: Any
    ) -> Any:  # its header is fine, its pixels are not
        Path("images/train/bee/5.png").write_bytes(whole)
        found = header(images, size, resize, **more)
        Path("images/train/bee/5.png").write_bytes(whole[:70])
        return found

    noise(Path("whole/bee/5.png"), 3)
    whole = Path("whole/bee/5.png").read_bytes()
    monkeypatch.setattr(splits, "shapes_of", shapes)
    with pytest.raises(ValueError, match=r"train/bee/5\.png: not an image that can be read"):
        checked(study())


def streamed(spec: StudySpec) -> Any:
    from dataclasses import replace

    return replace(data_spec(spec), memory_limit=0)


def test_test_images_are_decoded_once_and_again_when_they_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill("train", "test")
    decoded: list[int] = []
    monkeypatch.setattr(module, "check_decodes", lambda images: decoded.append(len(images.labels)))
    record, _ = checked(study())
    checked(study(), record)
    assert decoded == [16]
    noise(Path("images/test/bee/9.png"), 5)
    checked(study(), record)
    assert decoded == [16, 17]


def test_changed_images_are_refused_with_what_to_do() -> None:
    fill("train", "test")
    record, _ = checked(study())
    assert json.loads(json.dumps(record)) == record
    fill("train", "test", cat=8)
    with pytest.raises(
        ValueError,
        match=r"study mine was trained on other images: class 'cat' is new .*another `study:` name",
    ):
        checked(study(), record)


def test_uneven_classes_are_told_with_their_counts_and_the_accuracy_of_the_largest() -> None:
    fill("train", "test", ant=40, bee=8, cat=12)
    _, (line,) = checked(study())
    assert line == (
        "classes of very different size: ant 40, cat 12, bee 8. Always answering ant is right for 66.7% of the "
        "validation images: compare accuracies with that, or write `class_weights: balanced` and "
        "`objectives: [balanced_accuracy, macs]`"
    )
    balanced = study("class_weights: balanced\n")
    assert "class_weights" not in uneven_text(
        load_data(data_spec(balanced)), balanced.class_weights
    )
    record, _ = checked(balanced)
    assert record["majority"] == pytest.approx(10 / 15)


def test_what_the_largest_class_has_is_told_by_the_metric() -> None:
    fill("train", "test", ant=40, bee=8, cat=12)
    record, (line, few) = checked(study("objectives: [balanced_accuracy, macs]\n"))
    assert line == (
        "classes of very different size: ant 40, cat 12, bee 8. Always answering ant has 33.3% balanced accuracy; "
        "`class_weights: balanced` makes all classes count alike in training"
    )
    assert record["majority"] == pytest.approx(1 / 3)
    assert few.startswith(
        "15 validation images, 2 of the smallest class, are few: where 90% of each"
    )
    record, _ = checked(study("objectives: [macro_f1]\n"))
    assert record["majority"] == pytest.approx(2 * (10 / 15) / (1 + 10 / 15) / 3)


def test_top_5_of_three_classes_is_refused_before_anything_is_stored() -> None:
    fill("train", "test", ant=4, bee=8, cat=12)
    with pytest.raises(ValueError, match="needs images of 6 classes or more, and there are 3"):
        checked(study("objectives: [top5_accuracy, macs]\n"))


def test_even_classes_are_not_worth_a_line() -> None:
    fill("train", "test", ant=24, bee=8)
    assert checked(study())[1] == []


def stored(spec: StudySpec, without: tuple[str, ...] = ()) -> StudyRecord:
    values = {k: v for k, v in spec.model_dump(mode="json").items() if k not in without}
    store = Store.open("sqlite:///study.db")
    return store.add_study("mine", values, "", {"accuracy": 0.5})


NEW = ("test", "resize", "skip_broken", "class_weights", "crop_pct", "interpolation")


def test_a_study_from_before_the_keys_of_data_goes_on_as_it_was_begun() -> None:
    record = stored(study(), NEW)
    assert as_begun(study(), record).test is None
    assert stored_spec(record.spec).test is None
    fill("")
    _, said = checked(as_begun(study(), record))
    assert said == [
        "there are no test images, and this study holds out none: export will need some"
    ]
    assert sum(load_data(data_spec(as_begun(study(), record))).counts) == 16
    with pytest.raises(ValueError, match="study mine exists with another resize"):
        as_begun(study("resize: pad\n"), record)
    with pytest.raises(ValueError, match="study mine exists with another sampler"):
        as_begun(study().model_copy(update={"sampler": "tpe"}), record)


def test_of_the_keys_of_data_only_what_is_left_out_may_change() -> None:
    record = stored(study())
    assert set(NEW) & set(BEFORE) == {"test"}
    assert as_begun(study("skip_broken: true\n"), record).skip_broken
    for key, value in (
        ("test", "0.3"),
        ("resize", "squash"),
        ("class_weights", "balanced"),
        ("crop_pct", "0.875"),
        ("interpolation", "bicubic"),
    ):
        with pytest.raises(ValueError, match=f"study mine exists with another {key}"):
            as_begun(study(f"{key}: {value}\n"), record)


@pytest.mark.slow
def test_a_study_whose_images_change_is_neither_searched_on_nor_exported() -> None:
    fill("", ant=40, bee=40)
    Path("mine.yml").write_text(STUDY.replace("epochs: 1}", "epochs: 8}"))
    result = dynafront("search", "mine.yml")
    assert result.exit_code == 0, result.output
    assert "there are no test images: 16 of the 80 images" in " ".join(result.output.split())
    assert dynafront("export", "mine").exit_code == 0
    report = json.loads(Path("exported/model.json").read_text())
    assert report["report"]["test"]["images"] == 16
    assert report["preprocessing"] == {"resize": "crop", "bits": 16, "background": "white"}
    assert dynafront("predict", "exported", "images/ant/0.png").exit_code == 0
    for i in range(8):
        noise(Path(f"images/cat/{i}.png"), i)
    load_data.cache_clear()
    for command in (("search", "mine.yml"), ("export", "mine", "--out", "x"), ("inspect", "mine")):
        result = dynafront(*command)
        assert result.exit_code == 2, command
        assert "class 'cat' is new" in result.output
    store = Store.open("sqlite:///dynafront-data/dynafront.db")
    store.set_data("mine", {})  # as a study from before it was kept has it
    load_data.cache_clear()
    result = dynafront("inspect", "mine")
    assert result.exit_code == 2
    assert "does not fit the data as it is now (3 classes" in result.output


@pytest.mark.slow
def test_a_search_in_which_all_fails_says_why_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("nothing can [/train] here")
        yield

    fill("train", "test")
    monkeypatch.setattr("search.run.worker._trained", fails)
    result = dynafront("search", "mine.yml", "--workers", "0")
    assert result.exit_code == 1
    assert "Error: study mine: nothing could be trained, 1 training failed" in result.output
    assert "trial 0: ValueError: nothing can [/train] here" in result.output
    assert "ready to ship" not in result.output
    assert "nothing could be trained" in dynafront("front", "mine").output
    assert "nothing could be trained" in dynafront("export", "mine").output


REFERENCE = Reference(accuracy=0.5, macs=1e9, macs_p95=1e9, parameters=1e9).as_dict()


def ended(accuracy: float | None, kind: Kind = Kind.SEARCH) -> tuple[Store, StudyRecord]:
    """A study with one training; None: it failed."""
    store = Store.open("sqlite:///ended.db")
    record = store.add_study("mine", study().model_dump(mode="json"), "", REFERENCE)
    store.add_trial("mine", kind, 0, "gated_features", {}, 0, 1)
    if accuracy is None:
        store.fail_trial("mine", kind, 0, error="no room", epoch=1, trace="")
    else:
        own = [operating_point(accuracy)]
        store.finish_trial("mine", kind, 0, points=own, result={}, seconds=1.0)
    return store, record


def test_few_validation_images_are_told_with_the_interval_that_they_leave() -> None:
    assert few_text(np.array([24])) == (
        "24 validation images are few: where 90% of them are answered rightly, the accuracy lies between 72.0% and "
        "96.9% (95 % interval). More images, or a larger `validation`, tell networks apart that are closer"
    )
    assert few_text(np.array([384]))
    assert few_text(np.array([400])) == ""
    fill("train", "test")
    said: list[str] = []
    checked_data(study(), {}, said.append, Path("lists"))
    assert [line for line in said if FEW in line] == [few_text(np.array([4]))]


def test_a_study_that_only_guesses_is_told_so_and_not_that_nothing_is_done() -> None:
    text = no_front_text(*ended(0.4))
    assert text.startswith(
        "study mine: 1 trial is done, and no network is better than guessing, which is right for 50.0 %; the best "
        "has 40.0 %."
    )
    assert "dynafront inspect mine --trial 0" in text


def test_a_network_that_may_only_answer_the_most_frequent_class_is_not_offered() -> None:
    store, record = ended(0.8)
    assert len(study_front(store, record).members) == 1
    store.set_data("mine", {"majority": 0.79})  # inside the interval of 79 to 81 %
    front = study_front(store, record)
    assert (front.members, len(front.points)) == ([], 1)
    assert front.volume > 0, "how far the search has come is another question"
    assert no_front_text(store, record).startswith(
        "study mine: 1 trial is done, and no network is significantly better than always answering the most frequent "
        "class, which is right for 79.0 %; the best has 80.0 % (95 % interval 79.0 % to 81.0 %)."
    )


def test_a_study_whose_trials_failed_is_told_the_last_reason() -> None:
    assert "1 training failed. The last, trial 0: no room." in no_front_text(*ended(None))


def test_a_study_that_has_not_begun_is_told_so() -> None:
    store, record = ended(0.9)
    assert no_front_text(store, record, "multi_exit") == (
        "study mine: no trial of multi_exit is done yet; see dynafront status mine"
    )
