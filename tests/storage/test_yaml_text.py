"""Settings as YAML: what is read as what, and what no file may do to its reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.yaml_text import MOST_TEXT, MOST_VALUES, NotYamlError, file_text, parsed

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("[true, False, TRUE]", [True, False, True]),
        ("[yes, no, on, off, y, 1:30, 1_000]", ["yes", "no", "on", "off", "y", "1:30", "1_000"]),
        ("[~, null, ]", [None, None]),
        ("{a: , b: 1}", {"a": None, "b": 1}),
        ("[7, -7, +7, 007, 0o17, 0xff]", [7, -7, 7, 7, 15, 255]),
        ("[1e-3, 5E4, .5, 1., -2.5e+1]", [0.001, 50000.0, 0.5, 1.0, -25.0]),
        ("[2024-01-31, 2024-99-99, 12:30:00]", ["2024-01-31", "2024-99-99", "12:30:00"]),
        ("['2024', \"true\", !!str 7]", ["2024", "true", "7"]),
        ("{1: a, true: b, ~: c}", {"1": "a", "true": "b", "~": "c"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
    ],
)  # fmt: skip
def test_plain_words_are_what_yaml_1_2_says(text: str, value: Any) -> None:
    assert parsed(text) == value


WRONG = [
    ("a: 1\nb:\n  c: 2\n  d: 3\n  c: 4", None, "b.c", "stands in line 3 and again in line 5; keep one"),
    ("a: !!bool x", 1, "", "the tag !!bool is not allowed"),
    ("a: !!int ''", 1, "", "the tag !!int is not allowed"),
    ("a: !!float ''", 1, "", "the tag !!float is not allowed"),
    ("a: !!timestamp x", 1, "", "the tag !!timestamp is not allowed"),
    ("a: !!python/name:os.system ''", 1, "", "the tag !!python/name:os.system is not allowed"),
    ("a: !own 1", 1, "", "the tag !own is not allowed"),
    (f"a: {'9' * 500}", 1, "a", "a number of 500 digits"),
    (f"a: {'9' * 5000}", 1, "a", "a text of 5,000 characters"),
    ("a: [1, 1e999]", 1, "a.1", "1e999 is too large for a number"),
    ("a: .inf", 1, "a", ".inf is not a finite number"),
    ("a: -.INF", 1, "a", "-.INF is not a finite number"),
    ("a: .nan", 1, "a", ".nan is not a finite number"),
    ('a: "b\\0"', 1, "a", "the character '\\x00'"),
    ('a: "\\x85"', 1, "a", "the character '\\x85'"),
    ('a: "b\\ud800"', 1, "a", "the character '\\ud800'"),
    ("a: |\n  b\n", 1, "a", "the character '\\n'"),
    ("a: \x07", None, "", "special characters are not allowed"),
    ("\na: " + "[" * 500 + "]" * 500, 2, "a", "is nested more than 20 deep"),
    ("a: " + "{b: " * 500 + "}" * 500, 1, "a", "is nested more than 20 deep"),
    ("? [a]\n: 1", 1, "", "a key is a list or a mapping"),
    ("a: *b", 1, "a", "*b stands before its anchor ends"),
    ("a: &a [*a]", 1, "a.0", "*a stands before its anchor ends"),
    ("a: {<<: [1]}", 1, "a.<<", "merges what is no mapping"),
    ("a: 1\n---\nb: 2", 2, "", "a second document begins"),
    ("a: [", 1, "", "expected the node content"),
    (f"a: [{'b, ' * MOST_VALUES}]", 1, "", "holds more than 10,000 values"),
    (LAUGHS, 4, "", "holds more than 10,000 values"),
    ("#" * (MOST_TEXT + 1), None, "", "holds more than 1,000,000 characters"),
    ("[" * 900_000, 1, "0", "is nested more than 20 deep"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "reason"), WRONG, ids=map(str, range(len(WRONG))))
def test_what_is_wrong_is_said_with_line_and_key(
    text: str, line: int | None, key: str, reason: str
) -> None:
    with pytest.raises(NotYamlError) as caught:
        parsed(text)
    error = caught.value
    assert reason in str(error)
    assert (error.line, error.key[:9]) == (line, key)
    assert len(str(error)) < 300
    assert "\n" not in str(error)


def test_a_file_without_an_end_is_read_no_further_than_the_limit() -> None:
    with pytest.raises(NotYamlError, match="holds more than"):
        file_text(Path("/dev/zero"))


def test_a_merged_mapping_does_not_change_the_one_that_it_came_from() -> None:
    found = parsed("a: &x {b: 1}\nc: {<<: *x, d: 2}\ne: {<<: [*x, {b: 5, f: 6}]}")
    assert found == {"a": {"b": 1}, "c": {"b": 1, "d": 2}, "e": {"b": 1, "f": 6}}
