"""Answers that are made once for all who ask."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from search.service.kept_answers import kept


def test_who_asks_while_an_answer_is_made_gets_the_same_one() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        time.sleep(0.05)
        return name.upper()

    answer = kept(4, make)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(answer, ["a", "a", "b", "a"])) == ["A", "A", "B", "A"]
    assert sorted(made) == ["a", "b"]


def test_an_error_is_not_kept() -> None:
    failures = iter([True, False])

    def make() -> int:
        if next(failures):
            raise ValueError("not yet")
        return 1

    answer = kept(4, make)
    with pytest.raises(ValueError, match="not yet"):
        answer()
    assert answer() == 1
