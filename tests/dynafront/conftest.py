"""The study that is searched once, as the command line's tests have it, in the current folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.search.conftest import finished  # noqa: F401


@pytest.fixture
def here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    monkeypatch.chdir(finished)
    return finished
