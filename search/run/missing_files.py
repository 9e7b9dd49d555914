"""Files of a study that its store does not have yet: put there before a session ends, and by `dynafront sync`."""

from __future__ import annotations

from collections.abc import Callable

from storage.checkpoint_files import files_below
from storage.kept_files import KeptFiles


def put_missing(files: KeptFiles, study: str, say: Callable[[str], None]) -> int:
    """Put what was written while the store was away; returns how many files. A line says what could not be put."""
    if files.remote is None:
        return 0
    missing = [file for file in files_below(files.folder / study) if files.is_pending(file)]
    left = files.put_all(missing)
    if left:
        say(
            f"{left} file{'s' * (left > 1)} of {study} are on this machine alone: {files.away}; "
            f"`dynafront sync {study}` puts them there later"
        )
    return len(missing) - left
