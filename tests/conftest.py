"""Property tests have no deadline: on a busy machine any example can take long, and that says nothing of the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
