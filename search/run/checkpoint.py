"""A training's place among the checkpoints."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from search.run.job import Job
from spaces.contract.family import Candidate
from storage.checkpoints import Checkpoints
from storage.kept_files import checkpoint_store
from trainers.data.splits import DataSpec
from trainers.initial_weights import TRAINING, digest

logger = logging.getLogger(f"dynafront.{__name__}")

MAY_CHANGE = (
    "root",
    "skip_broken",
    "memory_limit",
)  # of the data; what the study's fingerprint tells is not repeated here
DATA_DEFAULTS = {one.name: one.default for one in fields(DataSpec)}
UNKNOWN = "unknown"  # weights that a training started from, once their file is gone


def checkpoints_of(job: Job) -> Checkpoints:
    """Where the job keeps its checkpoint, on this machine and for others."""
    folder = Path(job.checkpoints)
    return Checkpoints(folder, checkpoint_store(folder, job.store))


def fetch_sources(job: Job) -> None:
    """Bring the checkpoints of other trainings here that the job starts or learns from."""
    found = checkpoints_of(job)
    for source in {job.init_from, job.teacher} - {None}:
        path = Path(str(source))
        if path.is_relative_to(found.folder):
            found.fetch(path)


@dataclass(frozen=True)
class Slot:
    """One trial's place among the checkpoints.

    `identity` says what was trained on what; a checkpoint of something else that lies in this place is not loaded.
    """

    checkpoints: Checkpoints
    key: str
    identity: dict[str, Any]
    defaults: Mapping[str, Any]  # of the family's dimensions
    _known: set[tuple[int, int]] = field(default_factory=set, compare=False)  # see `_there`

    @classmethod
    def of(cls, job: Job, candidate: Candidate) -> Slot:
        data = {name: value for name, value in asdict(job.data).items() if name not in MAY_CHANGE}
        identity = {
            "family": candidate.family.name,
            "epochs": candidate.recipe.epochs,
            "params": candidate.params,
            "seed": job.seed,
            "data": data,
            "init": digest(job.init_from) or UNKNOWN if job.init_from else None,
        }
        defaults = {dimension.name: dimension.default for dimension in candidate.family.space}
        return cls(checkpoints_of(job), job.key, json.loads(json.dumps(identity)), defaults)

    def save(
        self, tensors: dict[str, Any], state: dict[str, Any], shared: Collection[str] = ()
    ) -> None:
        """Replace it, unless another process has trained on since: this one was suspended, and is not the study's any
        more.
        """

        def ahead() -> bool:
            return not self._is_behind(state["epochs_done"])

        whole = state | {"identity": self.identity}
        # asked before it is written, and again before it is put there: it may have been suspended while it wrote
        if ahead() and self.checkpoints.save(self.key, tensors, whole, shared, ahead):
            self._know()
        else:
            logger.warning("%s was trained further by another process", self.key)

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        found = self.checkpoints.load(self.key)
        self._know()
        return found if found and self._same(found[1].get("identity")) else None

    def _know(self) -> None:
        """What lies there now was loaded, or written, by this process."""
        self._known.clear()
        self._known.update(self._there())

    def _there(self) -> list[tuple[int, int]]:
        """What tells the file that lies there from others, if there is one."""
        with suppress(OSError):
            found = self.checkpoints.path(self.key).stat()
            return [(found.st_ino, found.st_mtime_ns)]
        return []

    def _is_behind(self, epochs: int) -> bool:
        if self._known.issuperset(self._there()):
            return False
        state = self.checkpoints.state(self.key) or {}
        return int(state.get("epochs_done", 0)) > epochs and self._same(state.get("identity"))

    def _same(self, saved: Any) -> bool:
        """Whether a checkpoint is this trial's. What a later version added (a dimension, a setting of the data) counts
        with its default.
        """
        if not isinstance(saved, dict):
            return False
        now, then = dict(self.identity), dict(saved)
        starts = (now.pop("init"), then.pop("init", None))
        if starts[0] != starts[1] and UNKNOWN not in starts and not _older(*starts):
            return False
        ours, theirs = now.pop("params"), then.pop("params", {})
        known = all(name in ours and ours[name] == value for name, value in theirs.items())
        added = all(
            value == self.defaults.get(name) for name, value in ours.items() if name not in theirs
        )
        ours, theirs = now.pop("data"), then.pop("data", {})
        same = all(theirs.get(name, DATA_DEFAULTS[name]) == value for name, value in ours.items())
        return now == then and known and added and same


def _older(now: str | None, then: str | None) -> bool:
    """Whether a digest is of when a checkpoint's whole file was digested, which training it again would change."""
    return (
        bool(now and then) and str(now).startswith(TRAINING) and not str(then).startswith(TRAINING)
    )
