"""Who wants to know of finished trials: MLflow's publisher, or nobody."""

from __future__ import annotations

from typing import Protocol

from storage.records import Kind


class Follower(Protocol):
    """Hears what changed, and never holds a study up."""

    def trial_finished(self, kind: Kind, number: int) -> None: ...

    def front_changed(self) -> None: ...


class NoFollower:
    """Wants to know nothing."""

    def trial_finished(self, kind: Kind, number: int) -> None:
        pass

    def front_changed(self) -> None:
        pass
