"""What the checkpoints of a study take: on this machine, and where all machines find them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.report.amounts import file_size
from storage.checkpoint_files import bytes_of, study_files
from storage.kept_files import KeptFiles


@dataclass(frozen=True)
class DiskUse:
    """Bytes of a study's checkpoints on this machine, and of each file in the store; `problem`: why that is unknown."""

    here: int
    stored: Mapping[str, int]
    url: str | None
    problem: str

    @property
    def in_store(self) -> int:
        return sum(self.stored.values())

    def text(self) -> str:
        """In words: 18 kB of checkpoints here, 9.0 kB in s3://bucket/dynafront."""
        here = f"{file_size(self.here)} of checkpoints"
        if self.url is None:
            return here
        return f"{here} here, {self.problem or f'{file_size(self.in_store)} in {self.url}'}"

    def as_dict(self) -> dict[str, Any]:
        """`stored_bytes` only where there is a store, None where it does not answer."""
        here = {"checkpoint_bytes": self.here}
        if self.url is None:
            return here
        return here | {"stored_bytes": None if self.problem else self.in_store}


def disk_use(files: KeptFiles, study: str) -> DiskUse:
    """Of one study; a store that is away is asked no second time."""
    here = bytes_of(study_files(files.folder, study))
    if files.remote is None:
        return DiskUse(here, {}, None, "")
    stored = {} if files.away else files.stored(study)
    return DiskUse(here, stored, files.remote.url, files.away)
