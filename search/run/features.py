"""Where features of frozen trunks are found and kept: on this machine, and where other machines find them.

Fetching a file of features is cheaper than computing it, which is a pass of the trunk over all images.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from search.run.job import Job
from storage.kept_files import FEATURES
from storage.remote_store import AwayError, RemoteStore, Version, digest_of
from storage.settings import Settings
from trainers.feature_files import FeatureFiles

logger = logging.getLogger(f"dynafront.{__name__}")


@dataclass(frozen=True)
class SharedFeatures:
    """Files of features in a store, which together take at most `limit` bytes there. One that is away is done without.

    The number of a version is when it was put, in seconds since 1970.
    """

    store: RemoteStore
    limit: int

    def fetch(self, file: Path) -> bool:
        """Make the file as another machine computed it; False where none did, or it cannot be had."""
        aside = file.with_name(f"{file.name}.{os.getpid()}")
        try:
            for version in self.store.versions(file.name):
                if self.store.get(file.name, version, aside):
                    os.replace(aside, file)
                    return True
        except AwayError as error:
            logger.warning("features are computed here: %s", error)
        finally:
            aside.unlink(missing_ok=True)
        return False

    def put(self, file: Path) -> None:
        """Keep the file there; those that were put longest ago make room for it."""
        size = file.stat().st_size
        if size > self.limit:
            return
        try:
            self._make_room(size)
            self.store.put(file.name, file, Version(int(time.time()), digest_of(file), size))
        except AwayError as error:
            logger.warning("features stay here: %s", error)

    def _make_room(self, needed: int) -> None:
        found = self.store.files("")
        total = sum(version.size for versions in found.values() for version in versions)
        for name in sorted(found, key=lambda name: found[name][0]):
            if total + needed <= self.limit:
                return
            total -= sum(version.size for version in found[name])
            self.store.remove(name)


def shared_features(store: str | None, limit: int) -> SharedFeatures | None:
    """The features in a store of the settings, if there is one."""
    return SharedFeatures(RemoteStore(f"{store}/{FEATURES}"), limit) if store else None


def feature_store(settings: Settings) -> FeatureFiles | None:
    """The files that features are kept in; None where none are to be kept."""
    limit = settings.feature_bytes
    if not limit:
        return None
    # workers may run in another folder
    return FeatureFiles(settings.features.absolute(), limit, shared_features(settings.store, limit))


def features_of(job: Job) -> FeatureFiles | None:
    """The same, as a job says it."""
    if not job.features:
        return None
    shared = shared_features(job.store, job.feature_bytes)
    return FeatureFiles(Path(job.features), job.feature_bytes, shared)


def with_places(job: Job, settings: Settings) -> Job:
    """The job, told where it finds and keeps features, and where other machines find what it keeps."""
    found = feature_store(settings)
    if found is not None:
        job = replace(job, features=str(found.folder), feature_bytes=found.limit)
    return replace(job, store=settings.store)
