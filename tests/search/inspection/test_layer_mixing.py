"""From which layers each layer takes its input."""

from __future__ import annotations

import pytest

from search.inspection import layer_mixing
from tests.search.inspection.nets import found_of
from trainers.data.splits import ImageData


def test_mixtures_are_means_of_weights_that_sum_to_one(data: ImageData) -> None:
    found = found_of("dense", data).part(layer_mixing.PICTURE)
    assert found is not None
    for rows in (found.right, found.wrong):
        assert rows is not None
        assert [len(row) for row in rows] == [2, 3]
        for row in rows:
            assert sum(row) == pytest.approx(1, abs=0.005)
