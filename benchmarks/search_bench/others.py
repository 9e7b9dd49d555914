"""Other libraries' multi-objective searches, where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def others() -> dict[str, Callable[[Any], None]]:
    return {}
