"""Images that all tests of inspections look at."""

from __future__ import annotations

import pytest

from search.trial import loaded
from trainers.data import DataSpec, ImageData


@pytest.fixture(scope="module")
def data() -> ImageData:
    return loaded(DataSpec(source="digits", train_limit=64))
