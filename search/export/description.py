"""model.json: what an exported model is, checked when it is read. Without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from search.export.folder import FORMAT, MODEL
from trainers.data.decode import RESIZES, Interpolation, Resize

CHECKSUMS = "checksums"
NETWORK = "network"  # among the checksums: that of what the weights were trained as
TRAINED_AS = ("family", "config", "task", "network", "preprocessing")
Size = Annotated[int, Field(strict=True, ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Task(_Part):
    channels: Annotated[int, Field(strict=True)]
    height: Size
    width: Size
    classes: Size
    mean: list[float]
    std: list[float]


class _Preprocessing(_Part):
    resize: Resize = "crop"
    bits: Annotated[int, Field(strict=True, ge=1, le=32)] = 16
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Interpolation = "bilinear"


class _Description(_Part):
    family: str
    config: dict[str, Any]
    task: _Task
    classes: list[str]
    network: dict[str, Any]
    preprocessing: _Preprocessing = _Preprocessing()
    checksums: dict[str, str] = {}

    @model_validator(mode="after")
    def _every_class_has_a_name(self) -> _Description:
        if len(self.classes) != self.task.classes:
            raise ValueError(
                f"classes: has {len(self.classes)} names, the network {self.task.classes} classes"
            )
        return self


def read_description(folder: Path) -> dict[str, Any]:
    """What the folder's model.json says. Raises ValueError when `dynafront export` did not make the folder, or when it
    was changed so that it no longer fits the network; names of classes may be.
    """
    path = folder / MODEL
    if not path.is_file():
        raise ValueError(
            f"{folder}: holds no {MODEL}; give the folder that `dynafront export` wrote"
        )
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))
        version = description["format"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: is damaged; export the model again") from None
    if version != FORMAT:
        raise ValueError(
            f"{path}: has format {version}, this version of dynafront reads {FORMAT}; export it again"
        )
    try:
        checked = _Description.model_validate(description)
    except ValidationError as error:
        raise ValueError(f"{path}: {_complaint(error)}; export the model again") from None
    if checked.checksums.get(NETWORK, trained_as(description)) != trained_as(description):
        raise ValueError(
            f"{path}: one of {', '.join(TRAINED_AS)} is not what the network was trained as; export the model again"
        )
    return description


def checksums(folder: Path, files: Iterable[str], description: dict[str, Any]) -> dict[str, str]:
    """Of files that lie in the folder, and of what the weights were trained as."""
    return {name: file_checksum(folder / name) for name in files} | {
        NETWORK: trained_as(description)
    }


def check_file(folder: Path, name: str, description: dict[str, Any]) -> None:
    """Raise ValueError where a file of the folder is not the exported one; older exports do not say."""
    known = description.get(CHECKSUMS, {}).get(name)
    if known is not None and file_checksum(folder / name) != known:
        raise ValueError(
            f"{folder / name}: is damaged, or of another export than {MODEL}; export the model again"
        )


def file_checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trained_as(description: dict[str, Any]) -> str:
    """A checksum of what must stay as it is for the weights to mean anything."""
    # as it is read back: keys are texts, and sorted as such
    parts = json.loads(json.dumps({name: description.get(name) for name in TRAINED_AS}))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if where == "preprocessing.resize":
        return f"{where}: {first['input']!r} is none of {', '.join(RESIZES)}"
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said
