"""A study file, read for a study that may have begun already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from search.spec import StudySpec, read_study
from storage.settings import Settings


def read_begun(file: Path, settings: Settings, say: Callable[[str], None]) -> tuple[StudySpec, str]:
    """The spec and the file's own text. Keys that no candidate reads are refused, but said of a study begun with them.

    Raises ValueError with one line.
    """
    unread: list[str] = []
    spec, text = read_study(file, unread.append)
    if unread:  # only then are the study's tables opened
        from search.commands.begun import going_on

        for line in going_on(spec, unread, settings):
            say(line)
    return spec, text
