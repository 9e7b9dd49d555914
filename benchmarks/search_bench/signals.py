"""What a sampler is told of a training, tried on the table; the product keeps the best of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def signals() -> dict[str, Callable[[Any], None]]:
    return {}
