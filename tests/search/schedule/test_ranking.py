"""What candidates are ranked by."""

from __future__ import annotations

import numpy as np
import pytest

from search.schedule.ranking import _rows


def test_a_forest_knows_parameters_then_sizes_on_a_logarithmic_scale_then_the_length() -> None:
    rows = _rows(np.array([[0.5], [1.0]]), np.array([[1.0], [0.1]]), [False, True])
    assert rows == pytest.approx(np.array([[0.5, 0.0, 0.0], [1.0, np.log(0.1), 1.0]]))
