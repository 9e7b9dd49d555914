"""One logger for the whole program, `dynafront`: every module has a child of it by its own name.

Nothing is printed until a command asks for it with -v, or a program that uses these packages adds a handler of its own.
"""

from __future__ import annotations

import logging
import sys

NAME = "dynafront"
LEVELS = (logging.CRITICAL, logging.INFO, logging.DEBUG)  # by the number of -v
FORMAT = "%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"


class _StandardError(logging.Handler):
    """Prints to what sys.stderr is at that moment: a live view on the terminal takes its place."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def show_logs(verbosity: int) -> None:
    """Print what the program does on stderr: 1 for what happens, 2 or more for details too, 0 for nothing."""
    logger = logging.getLogger(NAME)
    for handler in [h for h in logger.handlers if isinstance(h, _StandardError)]:
        logger.removeHandler(handler)
    handler = _StandardError()
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(handler)
    logger.setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])


def verbosity() -> int:
    """What `show_logs` was last asked for in this process; a process that is started can be asked for the same."""
    level = logging.getLogger(NAME).level
    return LEVELS.index(level) if level in LEVELS else 0
