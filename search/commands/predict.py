"""Classifying images with an exported model: which files are meant, and going on after one that is broken."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from search.export.classifier import Classifier, load_classifier
from search.export.remote_folder import local_folder
from storage.settings import Settings
from trainers.data.formats import image_files, other_text

REGISTERED = "models:/"
STDIN = "-"
COLUMNS = ("image", "class", "probability", "macs", "error")


@dataclass(frozen=True)
class Answer:
    """What the model says of an image, or why it says nothing."""

    image: str
    label: str = ""
    probability: float = 0.0
    macs: float = 0.0
    error: str = ""

    def as_dict(self) -> dict[str, object]:
        if self.error:
            return {"image": self.image, "error": self.error}
        known = {"class": self.label, "probability": self.probability, "macs": self.macs}
        return {"image": self.image, **known}


def csv_line(answer: Answer | None) -> str:
    """A line of the table with its end: of an answer, or of the names of the columns."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    if answer is None:
        writer.writeheader()
    else:
        writer.writerow(answer.as_dict())
    return text.getvalue()


@contextmanager
def classifier(
    model: Path | str, settings: Settings, variant: str | None = None
) -> Iterator[Classifier]:
    """The model in an exported folder or at a URL, or the registered one that `models:/NAME@ALIAS` names.

    `variant`: its file in another number format. Raises ValueError and StorageError.
    """
    if not str(model).startswith(REGISTERED):
        with local_folder(model) as local:
            yield load_classifier(local, variant)
        return
    from storage.mlflow_models import fetch_exported

    with TemporaryDirectory(prefix="dynafront-") as folder:
        yield load_classifier(fetch_exported(settings, str(model), Path(folder)), variant)


def answers(
    model: Classifier, given: Iterable[Path], thresholds: list[float] | None = None
) -> Iterator[Answer]:
    """What the model says of every image that is meant, in order; at these thresholds, or at its own."""
    for image in _meant(given):
        yield image if isinstance(image, Answer) else _answer(model, image, thresholds)


def _meant(given: Iterable[Path]) -> Iterator[Path | Answer]:
    """Files; of folders the images at any depth; for `-` the files and folders that standard input names."""
    for one in given:
        if str(one) == STDIN:
            yield from _meant(Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
        elif one.is_dir():
            files, others = image_files(one)
            yield from map(Path, files)
            if not files:
                found = other_text(others)
                yield Answer(str(one), error=f"holds no images{f' ({found})' if found else ''}")
        else:
            yield one


def _answer(model: Classifier, image: Path, thresholds: list[float] | None) -> Answer:
    try:
        return Answer(str(image), *model.predict(image, thresholds))
    except ValueError as error:
        return Answer(str(image), error=str(error).removeprefix(f"{image}: "))
