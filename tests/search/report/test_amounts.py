from __future__ import annotations

import pytest

from search.report.amounts import file_size, time_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_500, "1.5 kB"),
        (14_400_000, "14 MB"),
        (3.2e9, "3.2 GB"),
        (4.1e12, "4.1 TB"),
    ],
)
def test_bytes_have_two_digits_and_a_unit(count: float, text: str) -> None:
    assert file_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (40, "40 s"), (720, "12 min"), (12_600, "3.5 h"), (200_000, "2.3 days")],
)
def test_times_are_in_the_unit_that_people_use(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
