"""Whether the images are those that a study was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.run.data import load_data
from storage.store import Store
from trainers.data.fingerprint import difference, fingerprint
from trainers.data.splits import DataSpec


def check_same_data(store: Store, study: str, wanted: DataSpec) -> None:
    """Raises ValueError where the images are not those that the study was trained on, as far as that is known."""
    if before := store.data(study):
        changed_data(study, before, fingerprint(wanted, load_data(wanted)))


def changed_data(study: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ValueError where two fingerprints differ."""
    if how := difference(before, now):
        raise ValueError(
            f"study {study} was trained on other images: {how}. Restore the images, or search those that are there now "
            "under another `study:` name"
        )
