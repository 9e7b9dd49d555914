"""Where features of frozen trunks are found and kept."""

from __future__ import annotations

from dataclasses import replace

from search.run.job import Job
from storage.settings import Settings
from trainers.feature_files import FeatureFiles


def feature_store(settings: Settings) -> FeatureFiles | None:
    """The files that features are kept in; None where none are to be kept."""
    if not settings.feature_bytes:
        return None
    # workers may run in another folder
    return FeatureFiles(settings.features.absolute(), settings.feature_bytes)


def with_places(job: Job, settings: Settings) -> Job:
    """The job, told where it finds and keeps features, and where other machines find what it keeps."""
    found = feature_store(settings)
    if found is not None:
        job = replace(job, features=str(found.folder), feature_bytes=found.limit)
    return replace(job, store=settings.store)
