"""Images that are in memory become a source that a study file can name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset, random_split

import dynafront
from dynafront.datasets import written
from dynafront.encoding import encoded
from trainers.data.decode import Geometry, decoded
from trainers.data.sources import open_part
from trainers.data.splits import DataSpec, load

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (40, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(40) % 3


class Pictures(Dataset[tuple[Any, int]]):
    """PIL images, as torchvision's sets give them."""

    classes: tuple[str, ...] = ("cat", "dog", "hat")

    def __init__(self, pixels: np.ndarray = COLOUR) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return Image.fromarray(self.pixels[row]), int(LABELS[row])


def source_of(pair: Any, folder: Path) -> str:
    return written(pair, folder, lambda line: None)


def pixels_of(source: str, part: Any, channels: int) -> np.ndarray:
    images = open_part(source, Path(), part)
    geometry = Geometry(channels, 6, 5)
    return np.stack([decoded(geometry, *one) for one in images.each(np.arange(len(images.labels)))])


def tensors(pixels: np.ndarray) -> torch.Tensor:
    """As torchvision's ToTensor gives them: channels first, floats from 0 to 1."""
    whole = pixels if pixels.ndim == 4 else pixels[..., None]
    return torch.from_numpy(whole.transpose(0, 3, 1, 2).astype(np.float32) / 255)


@pytest.mark.parametrize("pixels", [GRAY, COLOUR], ids=["gray", "colour"])
def test_every_kind_of_set_gives_the_same_pixels_and_labels(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    planes = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    found = set()
    for number, train in enumerate(
        [
            (pixels, LABELS),
            (pixels.astype(np.float64) / 255, LABELS.tolist()),
            TensorDataset(tensors(pixels), torch.from_numpy(LABELS)),
            list(zip(map(Image.fromarray, pixels), LABELS, strict=True)),
        ]
    ):
        source = source_of((train, (pixels[:5], LABELS[:5])), tmp_path / str(number))
        channels = planes.shape[1]
        np.testing.assert_array_equal(pixels_of(source, "train", channels), planes)
        np.testing.assert_array_equal(pixels_of(source, "test", channels), planes[:5])
        images = open_part(source, Path(), "train")
        np.testing.assert_array_equal(images.labels, LABELS)
        assert images.classes == ("0", "1", "2")
        found.add(source.rpartition("/")[2])
    assert len(found) == 1  # the same content has the same name


def test_a_set_names_its_classes_also_through_a_part_of_it(tmp_path: Path) -> None:
    train, _ = random_split(Pictures(), [30, 10], torch.Generator().manual_seed(0))
    assert open_part(source_of((Pictures(), None), tmp_path), Path(), "train").classes == (
        "cat",
        "dog",
        "hat",
    )
    assert open_part(source_of((train, None), tmp_path), Path(), "train").classes[2] == "hat"


class Named(Pictures):
    """Pictures under other names, of these labels."""

    def __init__(self, classes: tuple[str, ...], labels: tuple[int, ...]) -> None:
        super().__init__(COLOUR[: len(labels)])
        self.classes, self.labels = classes, labels

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return super().__getitem__(row)[0], self.labels[row]


def test_test_images_are_of_the_classes_that_their_set_names(tmp_path: Path) -> None:
    test = Named(("cat", "hat"), (0, 1, 1))
    for one in (test, Subset(Subset(test, [0, 1, 2]), [0, 1, 2])):
        images = open_part(source_of((Pictures(), one), tmp_path), Path(), "test")
        assert images.labels.tolist() == [0, 2, 2]
    names = np.array(["dog", "cat"] * 20)
    images = open_part(
        source_of(((COLOUR, names), Named(("dog",), (0, 0))), tmp_path), Path(), "test"
    )
    assert images.labels.tolist() == [1, 1]
    # those of train are numbers alone
    images = open_part(source_of(((COLOUR, LABELS), test), tmp_path), Path(), "test")
    assert images.labels.tolist() == [0, 1, 1]


def test_labels_may_be_names(tmp_path: Path) -> None:
    names = np.array(["b", "a"] * 20)
    images = open_part(source_of(((GRAY, names), None), tmp_path), Path(), "train")
    assert images.classes == ("a", "b")
    assert images.labels.tolist() == [1, 0] * 20


def test_without_test_images_a_share_is_left_for_export(tmp_path: Path) -> None:
    source = source_of(((GRAY, LABELS), None), tmp_path)
    data = load(DataSpec(source=source, root=None, validation=0.2, test=0.2, seed=0))
    assert sum(data.counts) == 32


def test_it_is_written_once_and_never_over_something_else(tmp_path: Path) -> None:
    said: list[str] = []
    source = written((Pictures(), (COLOUR[:7], LABELS[:7])), tmp_path, said.append)
    assert said == [
        f"the study reads 40 train and 7 test images from {source.partition(':')[2]}, where they are written as "
        "Parquet"
    ]
    file = Path(source.partition(":")[2], "train.parquet")
    before = file.stat().st_mtime_ns
    assert source_of((Pictures(), (COLOUR[:7], LABELS[:7])), tmp_path) == source
    assert file.stat().st_mtime_ns == before
    changed = COLOUR.copy()
    changed[3, 2, 1, 0] ^= 1
    others = [
        source_of((Pictures(changed), (COLOUR[:7], LABELS[:7])), tmp_path),
        source_of((Pictures(), (COLOUR[:6], LABELS[:6])), tmp_path),
        source_of(((COLOUR, LABELS), (COLOUR[:7], LABELS[:7])), tmp_path),
    ]
    assert len({source, *others}) == 4
    assert len(list((tmp_path / "arrays").iterdir())) == 4


class Drawn(Pictures):
    """Another image each time."""

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return RNG.integers(0, 256, (6, 5), dtype=np.uint8), 0


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((GRAY, LABELS), "train is a ndarray: give data=(train, test)"),
        ((GRAY, LABELS, GRAY), "is a tuple: give data=(train, test)"),
        ((None, (GRAY, LABELS)), "train is None"),
        (((GRAY, LABELS[:9]), None), "train has 40 images and 9 labels"),
        (((GRAY, LABELS - 1), None), "labels of train are negative: give integers from 0"),
        (((GRAY, LABELS / 2), None), "labels of train are float64: give integers from 0"),
        (((GRAY[:0], LABELS[:0]), None), "train holds no images"),
        (((GRAY.astype(int), LABELS), None), "train, image 0: pixels are int64: give uint8"),
        (
            ((tensors(GRAY).numpy() * 3, LABELS), None),
            "train, image 0: an image has shape (1, 6, 5)",
        ),
        (((GRAY / 64 - 2, LABELS), None), "before they are normalised"),
        (
            ((GRAY, LABELS), (GRAY, LABELS + 1)),
            "test, image 2: label 3 is not one of the 3 classes",
        ),
        (((GRAY, LABELS), (GRAY[:2], ["a", "b"])), "test, image 0: label 'a' is not among"),
        (
            (Pictures(), Named(("cat", "Dog", "hat"), (0, 1))),
            "test, image 1: label 'Dog' is not among those of train (cat, dog, hat)",
        ),
        (
            (Pictures(), Named(("cat", "hat"), (0, 2))),
            "test, image 1: label 2 is not one of the 2 classes of test, from 0",
        ),
        ((Drawn(), None), "train, image 0: is another one each time it is read"),
        ((iter([1]), None), "train is a list_iterator"),
    ],
)
def test_what_is_no_image_or_label_is_named(pair: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^data: .*{re.escape(message)}") as error:
        source_of(pair, tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_picture_that_lies_on_its_side_is_put_upright() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = Image.fromarray(COLOUR[0])
    picture.getexif()[0x0112] = 6
    expected = np.rot90(COLOUR[0], -1)
    found = decoded(Geometry(3, 5, 6), "", encoded(picture))
    np.testing.assert_array_equal(found.transpose(1, 2, 0), expected)


@pytest.mark.slow
def test_a_study_of_arrays_is_searched_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.datasets import load_digits

    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    images, labels = digits.images / 16, digits.target
    keys: dict[str, Any] = {
        "study": "arrays",
        "families": ["gated_resnet"],
        "space": {"gated_resnet": {"backbone": "resnet8", "width": 0.25, "batch": 32}},
        "budget": {"trials": 2, "epochs": 3},
        "run": {"precision": "float32", "threads": 1},
        "workers": 0,
        "show": False,
    }
    data = ((images[:1000], labels[:1000]), (images[1000:], labels[1000:]))
    study = dynafront.search(data=data, **keys)
    assert dynafront.search(data=data, **keys) == study  # the same images go on
    model = study.best(pick="best").export("out", show=False)
    assert model.description["report"]["test"]["images"] == 797
    assert model(images[0]).label in map(str, range(10))
