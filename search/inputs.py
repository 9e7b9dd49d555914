"""What a study file names on this machine: images and weights. Checked before anything that is slow to import."""

from __future__ import annotations

from search.spec import StudySpec
from trainers.data.paths import LIBRARIES, expanded, weights_file
from trainers.data.sources import folder_of


def check_inputs(spec: StudySpec, where: str) -> None:
    """Raise ValueError, one line that begins with `where`, when something that the study needs is not there."""
    try:
        folder_of(spec.data)
    except ValueError as error:
        raise ValueError(f"{where}: data: {error}") from None
    if spec.data_root and (root := expanded(spec.data_root)).exists() and not root.is_dir():
        raise ValueError(f"{where}: data_root: {spec.data_root} is not a folder")
    for source in {source for name in spec.families if (source := spec.initial(name))}:
        try:
            _check_weights(source)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _check_weights(source: str) -> None:
    if source in LIBRARIES:
        raise ValueError(f"init_from: {source} names no model; write {source}NAME")
    if not source.startswith(LIBRARIES):
        weights_file(source)
