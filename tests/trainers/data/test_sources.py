"""What a person may get wrong about data, and the one line that is said about it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainers.data.splits import DataSpec, load, test_split


def folder_of(root: Path, **images: int) -> DataSpec:
    for name, count in images.items():
        (root / "train" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (4, 4)).save(root / "train" / name / f"{i}.png")
    return DataSpec(source=f"folder:{root}")


def parquet_of(root: Path, **columns: list[object]) -> DataSpec:
    pq.write_table(pa.table(columns), root / "train.parquet")
    return DataSpec(source=f"parquet:{root}")


@pytest.mark.parametrize("source", ["cifar11", "folder:", "folder", "digits:here", "", "parquet:"])
def test_an_unknown_source_is_told_the_known_ones(source: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^source: '{source}' is not .* digits, cifar10, .*parquet:PATH$"
    ):
        DataSpec(source=source)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("validation", 0.0),
        ("validation", 1.0),
        ("train_limit", 0),
        ("validation_limit", -1),
        ("image_size", 0),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_named_with_its_key(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: {value} is "):
        DataSpec(source="digits", **{key: value})


def test_a_spec_survives_pickling() -> None:
    spec = DataSpec(source="digits", seed=4)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^train_limit: 9 is fewer than the 10 classes"):
        load(DataSpec(source="digits", train_limit=9))


def test_a_wrong_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path}/nowhere does not exist: give the folder"):
        load(DataSpec(source=f"folder:{tmp_path}/nowhere"))
    (tmp_path / "train.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train.parquet is a file, not a folder"):
        load(DataSpec(source=f"parquet:{tmp_path}/train.parquet"))


def test_a_tilde_and_a_relative_path_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "mine", ant=2, bee=2)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert (
        load(DataSpec(source="folder:~/mine")).classes
        == load(DataSpec(source="folder:mine")).classes
    )


def test_a_folder_with_val_but_no_train_is_refused(tmp_path: Path) -> None:
    (tmp_path / "val" / "ant").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no folder 'train' beside 'val'"):
        load(DataSpec(source=f"folder:{tmp_path}"))


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no class folders in"):
        load(DataSpec(source=f"folder:{tmp_path}"))


@pytest.mark.parametrize(
    ("images", "match"),
    [
        ({"ant": 2, "bee": 0}, r"no images in class folder .*/train/bee"),
        ({"ant": 2, "bee": 1}, r"class 'bee' has 1 training image"),
        ({"ant": 2}, r"only one class \(ant\)"),
    ],
)
def test_too_few_images_are_refused_with_the_class(
    tmp_path: Path, images: dict[str, int], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        load(folder_of(tmp_path, **images))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\nbroken"])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    spec = folder_of(tmp_path, ant=3, bee=3)
    (tmp_path / "train" / "bee" / "1.png").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"/train/bee/1.png: not an image that can be read: replace"
    ):
        load(spec)


def test_an_image_cut_short_is_named(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, ant=3, bee=3)
    file = tmp_path / "train" / "bee" / "1.png"
    Image.effect_noise((4, 4), 50).convert("RGB").save(file)
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(
        ValueError, match=r"/train/bee/1.png: not an image that can be read: replace"
    ):
        load(spec)


def test_other_classes_in_test_are_refused(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, ant=2, bee=2)
    for name in ("ant", "cat"):
        (tmp_path / "test" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"class 'bee' of train is not in test \(1 such\)"):
        test_split(spec)


def test_parquet_names_the_file_and_row_of_a_broken_image(tmp_path: Path) -> None:
    spec = parquet_of(tmp_path, image=[b"broken"] * 4, label=[0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"train.parquet: row 0: not an image that can be read"):
        load(spec)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (
            {"image": [b""], "target": [0]},
            r"no column label or fine_label or labels \(it has image, target\)",
        ),
        ({"picture": [b""], "label": [0]}, r"no column image or img \(it has picture, label\)"),
        ({"image": [[1, 2]], "label": [0]}, r"column image has type list.*store encoded images"),
        ({"image": [b""] * 2, "label": [0, None]}, r"column label has rows without a value"),
        ({"image": [b""], "label": ["ant"]}, r"column label has type string"),
        (
            {"image": [b""] * 2, "label": [0, -1]},
            r"train.parquet: row 1: label -1 is not one of the 1 classes",
        ),
    ],
)
def test_parquet_columns_that_cannot_be_used_are_named(
    tmp_path: Path, columns: dict[str, list[object]], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        load(parquet_of(tmp_path, **columns))


def test_parquet_without_a_train_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no train\*.parquet in it or in its data/"):
        load(DataSpec(source=f"parquet:{tmp_path}"))


def test_a_shard_without_the_columns_of_the_first_is_named(tmp_path: Path) -> None:
    spec = parquet_of(tmp_path, image=[b""] * 2, label=[0, 1])
    pq.write_table(pa.table({"image": [b""], "kind": [0]}), tmp_path / "train_2.parquet")
    with pytest.raises(
        ValueError, match=r"train_2.parquet: no column label \(it has image, kind\)"
    ):
        load(spec)


def test_a_number_missing_among_labels_is_an_empty_class(tmp_path: Path) -> None:
    dot = tmp_path / "dot.png"
    Image.new("L", (2, 2)).save(dot)
    spec = parquet_of(tmp_path, image=[dot.read_bytes()] * 4, label=[0, 0, 2, 2])
    with pytest.raises(ValueError, match=r"class '1' has no training images"):
        load(spec)
