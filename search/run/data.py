"""The data set of a study, read once a process."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from spaces.contract.task import Task
from trainers.data.splits import DataSpec, ImageData, load


@lru_cache(maxsize=2)
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


def data_spec(values: Any) -> DataSpec:
    """The data that a StudySpec asks for."""
    return DataSpec(
        source=values.data,
        root=values.data_root or os.environ.get("DYNAFRONT_DATA"),
        validation=values.validation,
        test=values.test,
        resize=values.resize,
        skip_broken=values.skip_broken,
        class_weights=values.class_weights,
        train_limit=values.train_limit,
        validation_limit=values.validation_limit,
        image_size=values.image_size,
        seed=values.seed,
    )
