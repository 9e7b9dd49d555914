"""How far trainings had come when they were started: one that goes on from an earlier epoch has lost a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.records import Kind, training_text

Name = tuple[Kind, int]


@dataclass
class Reached:
    """Last epochs that were stored of trainings that were just started."""

    _epochs: dict[Name, int] = field(default_factory=dict)

    def start(self, name: Name, epoch: int) -> None:
        """It starts, and had reached this epoch; 0 for a new one."""
        self._epochs[name] = epoch

    def forget(self, name: Name) -> None:
        """That it is behind is known already."""
        self._epochs.pop(name, None)

    def behind(self, name: Name, epoch: int) -> str | None:
        """What to say of the first epoch that it trains; None where it goes on from where it was."""
        if epoch >= (reached := self._epochs.pop(name, 0)):
            return None
        where = "it starts again" if epoch == 1 else f"it goes on after epoch {epoch}"
        return f"{training_text(*name)}: its checkpoint of epoch {reached} is missing or damaged; {where}"
