"""Sets that are arrays of pixels: scikit-learn's digits and torchvision's files.

The files are read here and not by torchvision, whose check reads the test files to open the train part.
"""

from __future__ import annotations

import gzip
import logging
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.images import ArrayImages

logger = logging.getLogger(f"dynafront.{__name__}")

_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_DIGITS = tuple("0123456789")


def digits(part: str) -> ArrayImages:
    """scikit-learn's 1,797 digits, 8x8. A fifth is the test part, the same whatever a study's seed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    pixels = np.round(found.images * (255 / 16)).astype(np.uint8)
    rows = train_test_split(
        np.arange(len(pixels)), test_size=0.2, random_state=0, stratify=found.target
    )
    chosen = np.sort(rows[part == "test"])
    return ArrayImages(pixels[chosen], found.target[chosen].astype(np.int64), _DIGITS)


def torchvision_set(name: str, root: Path, part: str) -> ArrayImages:
    """A set in torchvision's layout below root, downloaded when it is not there."""
    kind, read = _READERS[name]
    try:
        pixels, labels, classes = read(root, part)
    except FileNotFoundError:
        logger.info("%s is not in %s: downloading it", name, root)
        _download(name, kind, root, part)
        pixels, labels, classes = read(root, part)
    return ArrayImages(pixels, labels.astype(np.int64), classes)


def _download(name: str, kind: str, root: Path, part: str) -> None:
    import torchvision

    which: dict[str, Any] = {"split": part} if name == "svhn" else {"train": part == "train"}
    try:
        getattr(torchvision.datasets, kind)(root, download=True, **which)
    except Exception as error:  # no network, a full disk, a broken archive
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name}: not found in {root.absolute()}, and the download failed ({first}): download it where "
            f"there is a network (torchvision.datasets.{kind}(FOLDER, download=True)), then give FOLDER as "
            "`data_root:` in the study file or in the environment variable DYNAFRONT_DATA"
        ) from error


_Arrays = tuple[np.ndarray, np.ndarray, tuple[str, ...]]


def _cifar10(root: Path, part: str) -> _Arrays:
    folder = root / "cifar-10-batches-py"
    names = [f"data_batch_{i}" for i in range(1, 6)] if part == "train" else ["test_batch"]
    batches = [_unpickled(folder / name) for name in names]
    classes = _unpickled(folder / "batches.meta")["label_names"]
    labels = np.concatenate([batch["labels"] for batch in batches])
    return (
        _planes_last(np.concatenate([batch["data"] for batch in batches])),
        labels,
        tuple(classes),
    )


def _cifar100(root: Path, part: str) -> _Arrays:
    folder = root / "cifar-100-python"
    found, meta = _unpickled(folder / part), _unpickled(folder / "meta")
    return (
        _planes_last(found["data"]),
        np.array(found["fine_labels"]),
        tuple(meta["fine_label_names"]),
    )


def _idx(folder: str, classes: tuple[str, ...]) -> Callable[[Path, str], _Arrays]:
    def read(root: Path, part: str) -> _Arrays:
        stem = root / folder / "raw" / ("train" if part == "train" else "t10k")
        return (
            _idx_array(f"{stem}-images-idx3-ubyte"),
            _idx_array(f"{stem}-labels-idx1-ubyte"),
            classes,
        )

    return read


def _svhn(root: Path, part: str) -> _Arrays:
    from scipy.io import loadmat

    path = root / f"{part}_32x32.mat"
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        found = loadmat(path)
        pixels, labels = found["X"].transpose(3, 0, 1, 2), found["y"].flatten()
    except Exception as error:  # what SciPy raises on broken files is not one family of exceptions
        raise _broken(path) from error
    return (
        np.ascontiguousarray(pixels),
        labels.astype(np.int64) % 10,
        _DIGITS,
    )  # the file calls the digit 0 "10"


def _idx_array(path: str) -> np.ndarray:
    """An IDX file, packed or not: 2 zeros, the type, the number of sizes, the sizes, the values."""
    packed = Path(path + ".gz")
    try:
        raw = (
            gzip.decompress(packed.read_bytes())
            if not Path(path).exists()
            else Path(path).read_bytes()
        )
        shape = np.frombuffer(raw, ">i4", raw[3], offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)
    except (ValueError, IndexError, EOFError, gzip.BadGzipFile) as error:
        raise _broken(path) from error


class _ArraysOnly(pickle.Unpickler):
    """Reads what CIFAR's files hold, lists and arrays, and refuses whatever else a pickle could run."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module.startswith("numpy"):
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not expected")


def _unpickled(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, warnings.catch_warnings():
        # NumPy 2.4 warns of arrays that were pickled by the Python of 2009
        warnings.simplefilter("ignore")
        try:
            return _ArraysOnly(file, encoding="latin1").load()
        except Exception as error:  # of many kinds: a pickle is a program
            raise _broken(path) from error


def _broken(path: Path | str) -> ValueError:
    return ValueError(f"{path}: broken file: delete it, and it is downloaded again")


def _planes_last(data: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


_READERS: dict[str, tuple[str, Callable[[Path, str], _Arrays]]] = {
    "cifar10": ("CIFAR10", _cifar10),
    "cifar100": ("CIFAR100", _cifar100),
    "mnist": ("MNIST", _idx("MNIST", _DIGITS)),
    "fashion_mnist": ("FashionMNIST", _idx("FashionMNIST", _CLOTHES)),
    "svhn": ("SVHN", _svhn),
}
TORCHVISION_SETS = tuple(_READERS)
