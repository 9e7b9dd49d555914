"""An error in one line, however long its message is, or where it has none."""

from __future__ import annotations

from spaces.contract.error_lines import first_line, kind_and_line


def test_the_first_line_of_a_long_message_is_enough() -> None:
    error = RuntimeError("\nsizes differ:\n  weight: 3 and 4\n")
    assert first_line(error) == "sizes differ:"
    assert kind_and_line(error) == "RuntimeError: sizes differ:"


def test_an_error_that_says_nothing_is_named_by_its_kind() -> None:
    for silent in (MemoryError(), MemoryError(" \n")):
        assert first_line(silent) == "MemoryError"
        assert kind_and_line(silent) == "MemoryError: no message"
