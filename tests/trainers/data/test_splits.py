"""Data sets made by hand: folders, parquet files, torchvision layouts. Nothing is downloaded."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trainers.data.decode import Geometry, decoded
from trainers.data.splits import DataSpec, Split, load, test_split


def picture(value: int, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> Image.Image:
    """An image (width, height) whose pixels tell it from others."""
    depth = (3,) if mode == "RGB" else ()
    noise = np.random.default_rng(value).integers(
        0, 256, (size[1], size[0], *depth), dtype=np.uint8
    )
    return Image.fromarray(noise)


def folder_of(
    root: Path, count: int = 4, classes: tuple[str, ...] = ("ant", "bee"), **how: object
) -> Path:
    for part, salt in (("train", 0), ("test", 1000)):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                picture(salt + label * 100 + i, **how).save(root / part / name / f"{i:04}.png")
    return root


def encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def parquet_file(path: Path, labels: list[int], names: list[str] | None, salt: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(picture(salt + i)), "path": None} for i in range(len(labels))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"img": pa.array(images, kind), "fine_label": pa.array(labels, pa.int64())})
    if names:
        features = {"fine_label": {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pq.write_table(table, path, row_group_size=3)


def everything(split: Split, **how: object) -> list[torch.Tensor]:
    return [torch.cat(part) for part in zip(*split.batches(4, **how), strict=True)]


def same(a: Split, b: Split, **how: object) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(everything(a, **how), everything(b, **how), strict=True)
    )


@pytest.mark.slow
def test_digits_need_no_network_and_their_test_images_are_the_same_for_every_seed() -> None:
    data = load(DataSpec(source="digits"))
    tests = [test_split(DataSpec(source="digits", seed=seed)) for seed in (0, 1)]
    assert (data.channels, data.height, data.width, data.flip) == (1, 8, 8, False)
    assert len(data.train) + len(data.validation) + len(tests[0]) == 1797
    assert same(*tests)
    images, _, _ = next(data.train.batches(1293))
    assert images.dtype == torch.uint8
    assert images.max() == 255
    assert data.mean[0] == pytest.approx((images / 255).mean().item(), abs=1e-6)
    assert data.std[0] == pytest.approx((images / 255).std(correction=0).item(), abs=1e-6)


def test_an_id_names_the_same_image_whatever_the_seed_and_the_limits() -> None:
    whole, part = (
        load(DataSpec(source="digits")),
        load(DataSpec(source="digits", seed=3, train_limit=50)),
    )
    images, _, ids = everything(whole.train)
    stored = dict(zip(ids.tolist(), images, strict=True))
    found = [
        torch.equal(stored[int(id_)], image)
        for image, _, id_ in zip(*everything(part.train), strict=True)
        if int(id_) in stored
    ]
    assert len(part.train) == 50
    assert len(found) > 30
    assert all(found)


def test_a_shuffle_is_a_permutation_that_its_seed_repeats() -> None:
    split = load(DataSpec(source="digits", train_limit=50)).train
    first, again, other = (everything(split, shuffle=seed)[2] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first.sort().values, split.ids)
    assert torch.equal(everything(split)[2], split.ids)


def test_drop_last_leaves_out_only_a_batch_that_is_not_full() -> None:
    split = load(DataSpec(source="digits", train_limit=50)).train
    assert [len(batch.ids) for batch in split.batches(20)] == [20, 20, 10]
    assert [len(batch.ids) for batch in split.batches(20, drop_last=True)] == [20, 20]
    assert [len(batch.ids) for batch in split.batches(25, drop_last=True)] == [25, 25]


def test_changing_a_batch_does_not_change_the_data() -> None:
    split = load(DataSpec(source="digits", train_limit=50)).train
    before = next(split.batches(10)).images.clone()
    next(split.batches(10)).images.zero_()
    assert torch.equal(next(split.batches(10)).images, before)


def test_a_folder_gives_its_pixels_and_sorted_classes(tmp_path: Path) -> None:
    data = load(DataSpec(source=f"folder:{folder_of(tmp_path)}"))
    assert data.classes == ("ant", "bee")
    assert (data.channels, data.height, data.width, data.flip) == (3, 6, 6, True)
    for split in (data.train, data.validation):
        for image, label, id_ in zip(*everything(split), strict=True):
            assert int(label) == int(id_) // 4
            stored = np.asarray(picture(int(label) * 100 + int(id_) % 4))
            assert np.array_equal(image.permute(1, 2, 0).numpy(), stored)


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_streamed_images_are_those_held_in_memory(tmp_path: Path, form: str) -> None:
    if form == "folder":
        folder_of(tmp_path, size=(9, 7))
    else:
        parquet_file(tmp_path / "train-0.parquet", [0, 1] * 4, None)
        parquet_file(tmp_path / "train-1.parquet", [0, 1] * 4, None, salt=20)
        parquet_file(tmp_path / "test.parquet", [0, 1] * 2, None, salt=50)
    specs = [
        DataSpec(source=f"{form}:{tmp_path}", memory_limit=limit, root=str(tmp_path), image_size=5)
        for limit in (0, 2**30)
    ]
    streamed, held = map(load, specs)
    assert same(streamed.train, held.train, shuffle=5)
    assert same(streamed.validation, held.validation)
    assert same(*map(test_split, specs))
    assert (streamed.mean, streamed.std) == (held.mean, held.std)


def test_streaming_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    data = load(DataSpec(source=f"folder:{folder_of(tmp_path)}", memory_limit=0))
    before = torch.get_rng_state()
    everything(data.train)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_worker_processes_give_the_same_images_and_one_line_about_a_broken_one(
    tmp_path: Path, form: str
) -> None:
    if form == "folder":
        folder_of(tmp_path, count=160)
    else:
        parquet_file(tmp_path / "train-0.parquet", [0, 1] * 80, None)
        parquet_file(tmp_path / "train-1.parquet", [0, 1] * 80, None, salt=500)
    specs = [
        DataSpec(source=f"{form}:{tmp_path}", memory_limit=limit, root=str(tmp_path))
        for limit in (0, 2**30)
    ]
    streamed, held = map(load, specs)
    assert len(streamed.train) > 256
    assert same(streamed.train, held.train, shuffle=5)
    if form == "folder":
        for file in (tmp_path / "train" / "ant").iterdir():
            file.write_bytes(b"")
        with pytest.raises(
            ValueError,
            match=r"^.*\.png: not an image that can be read: replace the file or leave it out$",
        ):
            everything(streamed.train)


def test_sizes_that_differ_become_a_square_of_the_median_shorter_side(tmp_path: Path) -> None:
    folder_of(tmp_path, size=(8, 20))
    picture(1, (30, 10)).save(tmp_path / "train" / "ant" / "wide.png")
    data = load(DataSpec(source=f"folder:{tmp_path}"))
    assert (data.height, data.width) == (8, 8)
    assert next(data.train.batches(2)).images.shape == (2, 3, 8, 8)


def test_large_images_of_several_sizes_are_capped_at_224(tmp_path: Path) -> None:
    folder_of(tmp_path, count=2, size=(300, 301))
    picture(1, (302, 310)).save(tmp_path / "train" / "ant" / "other.png")
    assert load(DataSpec(source=f"folder:{tmp_path}")).height == 224


def test_the_test_split_takes_size_and_channels_from_train(tmp_path: Path) -> None:
    folder_of(tmp_path, mode="L")
    for file in (tmp_path / "test").glob("*/*.png"):
        picture(1, (12, 9)).save(file)
    assert next(test_split(DataSpec(source=f"folder:{tmp_path}")).batches(3)).images.shape == (
        3,
        1,
        6,
        6,
    )


def test_resizing_keeps_the_centre_and_the_aspect_ratio() -> None:
    pixels = np.zeros((4, 12), np.uint8)
    # two more on both sides than the centre: resizing mixes in the nearest ones
    pixels[:, 2:10] = 200
    assert np.array_equal(decoded(Geometry(1, 4, 4), "x", pixels), np.full((1, 4, 4), 200))
    assert np.array_equal(decoded(Geometry(3, 2, 2), "x", pixels), np.full((3, 2, 2), 200))


def test_images_are_gray_only_when_all_of_them_are(tmp_path: Path) -> None:
    folder_of(tmp_path, mode="L")
    deep = np.full((6, 6), 0x80FF, np.uint16)
    Image.fromarray(deep).save(tmp_path / "train" / "ant" / "0000.png")
    data = load(DataSpec(source=f"folder:{tmp_path}"))
    images, _, ids = (
        torch.cat(pair)
        for pair in zip(everything(data.train), everything(data.validation), strict=True)
    )
    assert data.channels == 1
    assert images[ids == 0].unique().tolist() == [0x80]
    picture(1).convert("P").save(tmp_path / "train" / "bee" / "0000.png")
    assert load(DataSpec(source=f"folder:{tmp_path}")).channels == 3


def test_hidden_files_and_other_kinds_of_files_are_skipped(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "train" / "ant" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    data = load(DataSpec(source=f"folder:{tmp_path}"))
    assert len(data.train) + len(data.validation) == 8


def test_class_folders_without_train_are_the_training_images(tmp_path: Path) -> None:
    spec = DataSpec(source=f"folder:{folder_of(tmp_path) / 'train'}")
    assert load(spec).classes == ("ant", "bee")
    with pytest.raises(ValueError, match=r"no test images: put them in .*/test/CLASS/"):
        test_split(spec)


@pytest.mark.parametrize("form", ["folder", "parquet", "mnist"])
def test_loading_does_not_open_the_test_files(tmp_path: Path, form: str) -> None:
    if form == "folder":
        source, broken = f"folder:{folder_of(tmp_path)}", list((tmp_path / "test").glob("*/*"))
    elif form == "parquet":
        parquet_file(tmp_path / "train.parquet", [0, 1] * 4, None)
        source, broken = f"parquet:{tmp_path}", [tmp_path / "test.parquet"]
    else:
        mnist_files(tmp_path, "train")
        raw = tmp_path / "MNIST" / "raw"
        source, broken = "mnist", [raw / "t10k-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte"]
    for file in broken:
        file.write_bytes(b"broken")
    spec = DataSpec(source=source, root=str(tmp_path))
    load(spec)
    with pytest.raises(ValueError, match=r"broken file|not a parquet file|not an image"):
        test_split(spec)


def test_parquet_shards_give_images_and_the_names_of_their_schema(tmp_path: Path) -> None:
    parquet_file(tmp_path / "data" / "train-00000-of-2.parquet", [0, 1, 0, 1, 1], ["ant", "bee"])
    parquet_file(tmp_path / "data" / "train-00001-of-2.parquet", [1, 0], ["ant", "bee"], salt=5)
    parquet_file(tmp_path / "data" / "test-0.parquet", [1], ["ant", "bee"], salt=9)
    spec = DataSpec(source=f"parquet:{tmp_path}")
    data = load(spec)
    assert data.classes == ("ant", "bee")
    for image, label, id_ in zip(*everything(data.train), strict=True):
        assert [0, 1, 0, 1, 1, 1, 0][int(id_)] == int(label)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture(int(id_))))
    image, label, _ = next(test_split(spec).batches(1))
    assert label.item() == 1
    assert np.array_equal(image[0].permute(1, 2, 0).numpy(), np.asarray(picture(9)))


def test_parquet_without_names_calls_its_classes_by_number(tmp_path: Path) -> None:
    parquet_file(tmp_path / "train.parquet", [0, 1, 2] * 2, None)
    parquet_file(tmp_path / "test.parquet", [0, 1], None)
    spec = DataSpec(source=f"parquet:{tmp_path}")
    assert load(spec).classes == ("0", "1", "2")
    assert len(test_split(spec)) == 2


def mnist_files(root: Path, part: str, count: int = 40) -> np.ndarray:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    stem = "train" if part == "train" else "t10k"
    pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    (raw / f"{stem}-images-idx3-ubyte").write_bytes(
        struct.pack(">4i", 2051, *pixels.shape) + pixels.tobytes()
    )
    (raw / f"{stem}-labels-idx1-ubyte").write_bytes(
        struct.pack(">2i", 2049, count) + labels.tobytes()
    )
    return pixels


def test_mnist_is_read_from_the_folder_of_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = mnist_files(tmp_path, "train")
    test_pixels = mnist_files(tmp_path, "test", 20)
    monkeypatch.setenv("DYNAFRONT_DATA", str(tmp_path))
    data = load(DataSpec(source="mnist"))
    images, labels, ids = everything(data.train)
    assert np.array_equal(images[:, 0].numpy(), pixels[ids])
    assert torch.equal(labels, ids % 10)
    assert data.flip is False
    assert np.array_equal(
        everything(test_split(DataSpec(source="mnist")))[0][:, 0].numpy(), test_pixels
    )


def test_cifar10_is_read_from_the_folder_of_torchvision(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (50, 3072), dtype=np.uint8)
    for i in range(5):
        batch = {"data": rows[i * 10 : i * 10 + 10], "labels": list(range(10))}
        (folder / f"data_batch_{i + 1}").write_bytes(pickle.dumps(batch, protocol=2))
    names = [f"class{k}" for k in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    data = load(DataSpec(source="cifar10", root=str(tmp_path)))
    images, labels, ids = everything(data.train)
    assert np.array_equal(images.flatten(1).numpy(), rows[ids])
    assert torch.equal(labels, ids % 10)
    assert data.classes[3] == "class3"
    (folder / "batches.meta").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r"batches.meta: broken file"):
        load(DataSpec(source="cifar10", root=str(tmp_path)))


@pytest.mark.slow
def test_a_failed_download_says_where_it_looked_and_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("torchvision.datasets.SVHN", no_network)
    match = (
        rf"^svhn: not found in {tmp_path}, .*\(no route to host\).*`data_root:`.*DYNAFRONT_DATA$"
    )
    with pytest.raises(ValueError, match=match):
        load(DataSpec(source="svhn", root=str(tmp_path)))
