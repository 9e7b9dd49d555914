"""Answers that are made once and kept: what many ask for at a time is not made for each of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Generic, ParamSpec, TypeVar

Asked = ParamSpec("Asked")
Made = TypeVar("Made")


class _Answer(Generic[Made]):
    """One answer, made by whoever asks first; others who ask meanwhile wait for it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: list[Made] = []

    def get(self, make: Callable[[], Made]) -> Made:
        with self._lock:
            if not self._made:
                self._made.append(make())
            return self._made[0]


def kept(most: int, make: Callable[Asked, Made]) -> Callable[Asked, Made]:
    """`make`, with its `most` newest answers kept by what was asked. An error is not kept: the next one asks again."""

    place: Callable[..., _Answer[Made]] = lru_cache(maxsize=most)(lambda *_, **__: _Answer())

    def answer(*asked: Asked.args, **named: Asked.kwargs) -> Made:
        return place(*asked, **named).get(lambda: make(*asked, **named))

    return answer
