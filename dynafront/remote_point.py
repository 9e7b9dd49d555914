"""A point of a study on a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from dynafront.model import Model, load
from dynafront.point import Point
from dynafront.remote_job import followed

if TYPE_CHECKING:
    from dynafront.remote import RemoteStudy


@dataclass(frozen=True, repr=False)
class RemotePoint(Point):
    """A `dynafront.Point` that the server exports."""

    study: RemoteStudy = field(repr=False)  # type: ignore[assignment]

    def export(
        self,
        folder: Path | str = "exported",
        *,
        register: bool = False,
        force: bool = False,
        whole_curve: bool = False,
        formats: Sequence[str] = ("onnx",),
        quantize: Sequence[str] = (),
        show: bool = True,
    ) -> Model:
        """The trained model of this point: exported on the server, downloaded into the folder of this machine.

        `register` adds a version to the server's MLflow model registry, `force` overwrites an earlier export in the
        folder, `show` prints the server's steps; the rest as there. Raises ValueError where the folder holds
        something, and RuntimeError with the reason where the server cannot export the point.
        """
        path = Path(folder).expanduser()
        _check(path, force)
        connection, name = self.study.connection, self.study.name
        action = "register" if register else "export"
        extras = {"whole_curve": whole_curve or None, "quantize": list(quantize) or None}
        extras["formats"] = list(formats) if "pt2" in formats else None
        job = connection.post(action, study=name, point=self.record.id, **extras)["job"]
        followed(connection, job, show=show)
        exports: list[dict[str, Any]] = connection.get("exports", study=name)["exports"]
        found = next((one for one in exports if one["point"] == self.record.id), None)
        if found is None:
            raise RuntimeError(f"the server has no export of point {self.record.id}")
        with TemporaryDirectory() as scratch:
            archive = Path(scratch) / "model.zip"
            connection.download("download", archive, study=name, id=found["id"])
            _unpack(archive, path)
        return load(path)


def _check(folder: Path, force: bool) -> None:
    """Raise ValueError where the folder holds anything but an earlier export that is to be overwritten."""
    from search.export.folder import MODEL

    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MODEL).is_file():
        raise ValueError(f"{folder}: is not empty and holds no exported model; give another folder")
    if not force:
        raise ValueError(f"{folder}: holds an exported model already; force=True overwrites it")


def _unpack(archive: Path, folder: Path) -> None:
    """The files of the archive, without the folder that they stand in there, and never beside ours.

    What an earlier export has left of files that this one has not goes.
    """
    from search.export.folder import is_exported

    written = set()
    with ZipFile(archive) as content:
        for one in content.infolist():
            parts = PurePosixPath(one.filename).parts[1:]
            if one.is_dir() or not parts or ".." in parts:
                continue
            file = folder.joinpath(*parts)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.read(one))
            written.add(file)
    for file in [one for one in folder.rglob("*") if one.is_file() and one not in written]:
        if is_exported(file.relative_to(folder).as_posix()):
            file.unlink()
