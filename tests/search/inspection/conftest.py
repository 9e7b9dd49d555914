"""Images that all tests of inspections look at."""

from __future__ import annotations

import pytest

from search.run.data import load_data
from trainers.data.splits import DataSpec, ImageData


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data(DataSpec(source="digits", train_limit=64))
