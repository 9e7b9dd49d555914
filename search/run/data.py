"""The data set of a study, read once a process."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from spaces.contract.task import Task
from trainers.data.splits import DataSpec, ImageData, load

if TYPE_CHECKING:
    from search.study_keys import StudySpec


@lru_cache(maxsize=8)  # sizes of the images: all but small sets lie in files that processes share
def load_data(spec: DataSpec) -> ImageData:
    """The data set, read once a process."""
    return load(spec)


def task_of(data: ImageData) -> Task:
    """What a network for this data must take and give."""
    return Task(
        channels=data.channels,
        height=data.height,
        width=data.width,
        classes=len(data.classes),
        mean=tuple(data.mean),
        std=tuple(data.std),
    )


def data_spec(values: StudySpec, image_size: int | None = None) -> DataSpec:
    """The data that a study asks for, at one of its image sizes; unless told otherwise at the largest."""
    kept = values.run.image_gigabytes
    return DataSpec(
        source=values.data,
        root=values.data_root or os.environ.get("DYNAFRONT_DATA"),
        validation=values.validation,
        test=values.test,
        resize=values.resize,
        crop_pct=values.crop_pct,
        interpolation=values.interpolation,
        skip_broken=values.skip_broken,
        class_weights=values.class_weights,
        train_limit=values.train_limit,
        validation_limit=values.validation_limit,
        image_size=image_size or max(values.image_sizes, default=None),
        seed=values.seed,
        memory_limit=None if kept is None else int(1e9 * kept),
    )
