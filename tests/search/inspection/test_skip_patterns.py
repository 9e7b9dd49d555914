"""Patterns of layers that run together."""

from __future__ import annotations

import pytest

from search.inspection import skip_patterns
from search.inspection.forward_pass import Effort
from search.inspection.measures import inspect_network
from tests.search.inspection.nets import halves, joint
from trainers.data.splits import ImageData


def test_patterns_are_counted_with_the_accuracy_of_those_who_take_them(data: ImageData) -> None:
    found = inspect_network(
        joint(), data, halves(), effort=Effort(images=10**6, side=8, umap=False)
    )
    patterns = found.part(skip_patterns.PICTURE)
    assert patterns is not None
    rows = patterns.rows
    assert [row.share for row in rows] == sorted((row.share for row in rows), reverse=True)
    assert len({row.open for row in rows}) == len(rows)
    if len(rows) == patterns.distinct:
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert sum(row.share * row.accuracy for row in rows) == pytest.approx(found.accuracy)
        assert sum(row.share * row.macs for row in rows) == pytest.approx(found.macs_mean)
