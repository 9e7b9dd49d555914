"""JSON that any database takes and that comes back as it was."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.json_text import dumps, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
).filter(lambda value: '"$' not in repr(value) and "'$" not in repr(value))


@dataclass
class Record:
    value: int


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


def test_integers_of_any_size_come_back() -> None:
    for value in (2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**40):
        assert loads(dumps({"a": [value]})) == {"a": [value]}
        assert type(loads(dumps(value))) is int


def test_none_and_numbers_of_numpy_come_back() -> None:
    given = {"a": None, "b": np.float32(0.5), "c": [np.int64(3), np.float64(math.nan)], 1: "null"}
    kept = loads(dumps(given))
    assert (kept["a"], kept["b"], kept["c"][0], kept["1"]) == (None, 0.5, 3, "null")
    assert math.isnan(kept["c"][1])


def test_the_name_of_a_file_that_is_no_utf8_comes_back() -> None:
    name = b"photo\xff.jpg".decode(errors="surrogateescape")
    assert loads(dumps([name])) == [name]


def test_what_older_versions_wrote_is_read() -> None:
    assert loads('{"a": 1e-06, "b": "\\u00e9\\ud800", "c": [true, null]}') == {
        "a": 1e-6,
        "b": "\u00e9\ud800",
        "c": [True, None],
    }


def test_dates_and_records_are_refused() -> None:
    with pytest.raises(TypeError, match="datetime cannot be kept as JSON"):
        dumps({"a": datetime.now(UTC)})
    with pytest.raises(TypeError, match="Record cannot be kept as JSON"):
        dumps([Record(1)])


def test_what_is_no_number_text_list_or_dict_is_refused():
    with pytest.raises(TypeError, match="set cannot be kept as JSON; give numbers"):
        dumps({"a": {1, 2}})
