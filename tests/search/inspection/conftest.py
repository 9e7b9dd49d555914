"""Images that all tests of inspections look at."""

from __future__ import annotations

import pytest

from search.run.data import loaded
from trainers.data.splits import DataSpec, ImageData


@pytest.fixture(scope="module")
def data() -> ImageData:
    return loaded(DataSpec(source="digits", train_limit=64))
