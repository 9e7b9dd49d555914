"""JSON that any database takes and that comes back as it was."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.json_text import dumps, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
).filter(lambda value: "$float" not in repr(value))


@given(VALUES)
def test_whatever_goes_in_comes_out(value):
    text = dumps(value)
    assert loads(text) == loads(text.encode()) == value
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_nan_survives_inside_lists_and_dicts():
    text = dumps({"a": [1.0, math.nan], "b": (math.inf,)})
    kept = loads(text)
    assert math.isnan(kept["a"][1])
    assert kept["b"] == [math.inf]
    assert "NaN" not in text  # which PostgreSQL would refuse
    assert "Infinity" not in text


def test_what_is_no_number_text_list_or_dict_is_refused():
    with pytest.raises(TypeError, match="set cannot be kept as JSON; give numbers"):
        dumps({"a": {1, 2}})
