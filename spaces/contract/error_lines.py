"""What an error says, in one line: messages of PyTorch and of others go on for many."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of the message; the kind of the error where there is none."""
    return _line(error) or type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """The kind of the error and the first line of its message."""
    return f"{type(error).__name__}: {_line(error) or 'no message'}"


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
