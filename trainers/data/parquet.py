"""Images in parquet files, as Hugging Face writes them: a column of encoded images and a column of labels."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainers.data.images import SAMPLED_BYTES, Images, Seekable, Stored, stamp

logger = logging.getLogger(f"dynafront.{__name__}")

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")
BLOCK_ROWS = 1024


def parquet_files(folder: Path, part: str) -> list[Path]:
    """FOLDER/train*.parquet or FOLDER/data/train*.parquet; in place of test*, val*. Empty where there are none."""
    for name in ("test", "val") if part == "test" else (part,):
        for where in (folder, folder / "data"):
            if files := sorted(one for one in where.glob(f"{name}*.parquet") if one.name[0] != "."):
                return files
    return []


def open_parquet(folder: Path, part: str, classes: tuple[str, ...] | None = None) -> Images:
    """The images of a part; `classes` serve when the files name none."""
    files = parquet_files(folder, part)
    if not files:
        raise ValueError(
            f"parquet:{folder}: no {part}*.parquet in it or in its data/: put the {part} files there"
        )
    schema = _schema(files[0])
    image = _column(schema, IMAGE_COLUMNS, files[0])
    label = _column(schema, LABEL_COLUMNS, files[0])
    for file in files:
        _check_columns(file, image, label)
    labels = np.concatenate([_labels(file, label) for file in files])
    names = _class_names(schema, label) or classes
    names = names or tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
    images = ParquetImages(files, image, labels, names, _notes(folder) if part == "train" else ())
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        what = f"{label} {labels[wrong[0]]} is not one of the {len(names)} classes (0 to {len(names) - 1})"
        raise ValueError(f"{images.name(int(wrong[0]))}: {what}: correct it or leave the row out")
    return images


class ParquetImages(Images):
    """Encoded images, read from the files as they are asked for."""

    def __init__(
        self,
        files: list[Path],
        column: str,
        labels: np.ndarray,
        classes: tuple[str, ...],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.files, self.column, self.labels, self.classes = files, column, labels, classes
        self.notes = notes
        self._first = np.cumsum([0, *(pq.read_metadata(file).num_rows for file in files)])

    def name(self, row: int) -> str:
        """How messages call the row."""
        return row_name(self.files, self._first, row)

    def each(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[str, Stored]]:
        wanted = np.asarray(rows)
        start = 0
        for encoded in self._blocks():
            for row in wanted[
                np.searchsorted(wanted, start) : np.searchsorted(wanted, start + len(encoded))
            ]:
                yield self.name(int(row)), encoded[int(row) - start].as_py() or b""
            start += len(encoded)

    def marks(self) -> Iterator[bytes]:
        for path in self.files:
            yield f"{path.name} {path.stat().st_size}".encode(errors="surrogateescape")
            with path.open("rb") as file:
                yield file.read(SAMPLED_BYTES)
                file.seek(max(0, path.stat().st_size - SAMPLED_BYTES))
                yield file.read()

    def stamps(self) -> Iterator[str]:
        return map(stamp, self.files)

    def seekable(self, folder: Path) -> Seekable:
        """A copy, made once, of the encoded images: rows of a parquet file cannot be read singly."""
        identity = [
            (str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns)
            for file in self.files
        ]
        key = hashlib.sha256(json.dumps([identity, self.column]).encode()).hexdigest()[:16]
        copy = folder / "parquet" / f"{key}.arrow"
        if not copy.exists():
            self._copy(copy)
        return MappedImages(str(copy), self.files, self._first)

    def _copy(self, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_suffix(f".{os.getpid()}")
        schema = pa.schema([("encoded", pa.large_binary())])
        try:
            with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, schema) as writer:
                for encoded in self._blocks():
                    writer.write_batch(
                        pa.record_batch([encoded.cast(pa.large_binary())], schema=schema)
                    )
            partial.rename(to)  # whole or not at all: another process may be waiting to read it
        finally:
            partial.unlink(missing_ok=True)

    def _blocks(self) -> Iterator[Any]:
        """Arrays of encoded images, of up to BLOCK_ROWS each."""
        for path in self.files:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BLOCK_ROWS, columns=[self.column]):
                    column = batch.column(0)
                    yield column.field("bytes") if pa.types.is_struct(column.type) else column


@dataclass
class MappedImages(Seekable):
    """Encoded images in one file that every process maps into its memory."""

    path: str
    files: list[Path]
    first: np.ndarray

    def __post_init__(self) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(self.path))
        blocks = [
            self._reader.get_batch(i).num_rows for i in range(self._reader.num_record_batches)
        ]
        self._block_first = np.cumsum([0, *blocks])

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedImages, (self.path, self.files, self.first)

    def at(self, row: int) -> tuple[str, Stored]:
        block = int(np.searchsorted(self._block_first, row, side="right")) - 1
        encoded = (
            self._reader.get_batch(block).column(0)[row - int(self._block_first[block])].as_py()
        )
        return row_name(self.files, self.first, row), encoded or b""


def row_name(files: list[Path], first: np.ndarray, row: int) -> str:
    """The file of the row and the row within it, counted from 0."""
    file = int(np.searchsorted(first, row, side="right")) - 1
    return f"{files[file]}: row {row - first[file]}"


def _notes(folder: Path) -> tuple[str, ...]:
    """What is said of a set whose test files are others than test*."""
    test = parquet_files(folder, "test")
    if not test or test[0].name.startswith("test"):
        return ()
    return (
        f"there is no test*.parquet: {test[0].name} is taken for it, and measured by export alone",
    )


def _schema(file: Path) -> Any:
    try:
        return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file}: not a parquet file that can be read: replace it") from error


def _column(schema: Any, names: tuple[str, ...], file: Path) -> str:
    found = [name for name in names if name in schema.names]
    if not found:
        raise ValueError(
            f"{file}: no column {' or '.join(names)} (it has {', '.join(schema.names)}): rename the column"
        )
    return found[0]


def _check_columns(file: Path, image: str, label: str) -> None:
    schema = _schema(file)
    for column in (image, label):
        _column(schema, (column,), file)
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise ValueError(
            f"{file}: column {image} has type {kind}: store encoded images (PNG, JPEG) as bytes"
        )


def _labels(file: Path, column: str) -> np.ndarray:
    label = pq.read_table(file, columns=[column]).column(0)
    if not pa.types.is_integer(label.type) or label.null_count:
        what = "rows without a value" if label.null_count else f"type {label.type}"
        raise ValueError(
            f"{file}: column {column} has {what}: labels are integers from 0, one a row"
        )
    return label.to_numpy().astype(np.int64)


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """The names that Hugging Face keeps in the schema, or None."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (TypeError, KeyError, ValueError):
        logger.debug("the schema has no names for the classes of %s", label)
        return None
    return tuple(map(str, names)) if names else None
