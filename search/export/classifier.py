"""An exported model that classifies image files: by onnxruntime, which starts in a fraction of the time of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from search.export.description import check_file, read_description
from search.export.folder import MODEL, ONNX, THRESHOLDS, incomplete, prepared
from spaces.contract.task import Task
from trainers.data.images import Stored

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Classifier(Protocol):
    """What `predict` needs of a model."""

    @property
    def description(self) -> dict[str, Any]:
        """What model.json says."""
        ...

    def predict(
        self, image: Stored, thresholds: list[float] | None = None
    ) -> tuple[str, float, float]:
        """Class name, its probability, and the MACs that this image took. Raises ValueError on a broken image.

        `thresholds` are those of an operating point; None: those of the chosen one.
        """
        ...


@dataclass(frozen=True)
class OnnxClassifier:
    """The folder's model.onnx, run by onnxruntime on the CPU."""

    session: InferenceSession
    description: dict[str, Any]

    def predict(
        self, image: Stored, thresholds: list[float] | None = None
    ) -> tuple[str, float, float]:
        """Class name, its probability, and the MACs that this image took. Raises ValueError on a broken image."""
        task = Task.from_dict(self.description["task"])
        pixels = prepared(image, task, self.description.get("preprocessing", {}))
        given = {"pixels": pixels}
        if thresholds:
            given[THRESHOLDS] = np.array(thresholds, np.float64)
        logits, macs_B = self.session.run(["logits", "macs"], given)
        odds = np.exp(logits[0] - logits[0].max())
        best = int(odds.argmax())
        return self.description["classes"][best], float(odds[best] / odds.sum()), float(macs_B[0])


def load_classifier(folder: Path, variant: str | None = None) -> Classifier:
    """The model in a folder that `dynafront export` made. Raises ValueError when it is none.

    `variant` is the number format of another file of the folder, such as int8.

    Folders from before ONNX files said the MACs of an image are run in torch.
    """
    description = read_description(folder)
    if variant is not None or (folder / ONNX).is_file():
        file = ONNX if variant is None else _file_of(folder, variant, description)
        check_file(folder, file, description)
        session = _session(folder, file)
        _check_shapes(folder / file, session, description)
        if "macs" in {output.name for output in session.get_outputs()}:
            return OnnxClassifier(session, description)
    from search.export.model import load_exported

    return load_exported(folder)


def _file_of(folder: Path, variant: str, description: dict[str, Any]) -> str:
    """The file of a number format. Raises ValueError where the folder has none."""
    variants = description.get("report", {}).get("variants", {})
    files = {name: one["file"] for name, one in variants.items() if one["file"] is not None}
    if variant not in files:
        known = f"has {', '.join(files)}" if files else "has the float32 file alone"
        raise ValueError(
            f"{folder}: {known}, not {variant}; dynafront export --quantize {variant} makes it"
        )
    if not (folder / files[variant]).is_file():
        raise ValueError(f"{folder / files[variant]}: is missing; export the model again")
    return str(files[variant])


def _session(folder: Path, file: str) -> InferenceSession:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that thresholds are no constants
    try:
        return onnxruntime.InferenceSession(
            str(folder / file), options, providers=["CPUExecutionProvider"]
        )
    except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf) as error:
        raise incomplete(folder, error) from None


def _check_shapes(file: Path, session: InferenceSession, description: dict[str, Any]) -> None:
    """Raise ValueError where the graph takes other images, or knows other classes, than model.json says."""
    task = Task.from_dict(description["task"])
    (pixels,) = session.get_inputs()
    logits = session.get_outputs()[0]
    for what, found, wanted in (
        ("images", pixels.shape[1:], [task.channels, task.height, task.width]),
        ("classes", logits.shape[1:], [task.classes]),
    ):
        # a size that the graph leaves open is a name
        if any(
            isinstance(size, int) and size != said for size, said in zip(found, wanted, strict=True)
        ):
            raise ValueError(
                f"{file}: {what} of {_sizes(found)}, {MODEL} says {_sizes(wanted)}; export the model again"
            )


def _sizes(sizes: list[Any]) -> str:
    return " x ".join(map(str, sizes))
