"""YAML as people write settings in it: plain values, each mistake with its line, and bounds on what a file may hold.

Plain words and numbers are read as YAML 1.2 has them (core schema): truth values are `true` and `false` alone, so `no`
and `1:30` are texts, and `1e-3` is a number. A key stands once in a mapping; keys are texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

MOST_TEXT = 1_000_000  # characters of a file
MOST_VALUES = 10_000  # what aliases stand for counted each time
MOST_CHARACTERS = 1_000  # of one text
LONGEST_NUMBER = 100
DEEPEST = 20
SHOWN = 100  # characters of what a person wrote, in a message

CONSTANTS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
WHOLE = re.compile(r"[-+]?[0-9]+")
OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, half characters
STANDARD = "tag:yaml.org,2002:"
STRING = f"{STANDARD}str"
MERGE = "<<"


class NotYamlError(ValueError):
    """A text that is no YAML, or more than settings may hold: why, in which line (from 1), under which key."""

    def __init__(self, reason: str, line: int | None = None, key: str = "") -> None:
        self.reason, self.line, self.key = reason, line, clipped(key)
        super().__init__(reason)


def file_text(path: Path) -> str:
    """The text of a file. Raises OSError, UnicodeDecodeError, and NotYamlError for one that is too large."""
    with path.open(encoding="utf-8") as file:
        text = file.read(MOST_TEXT + 1)  # a device may have no end
    if len(text) > MOST_TEXT:
        raise _too_large()
    return text


def parsed(text: str) -> Any:
    """The value that a text says; None for an empty one. Raises NotYamlError."""
    if len(text) > MOST_TEXT:
        raise _too_large()
    try:
        return _Reader(text).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None)
        raise NotYamlError(reason or "cannot be parsed", mark.line + 1 if mark else None) from None


def clipped(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _too_large() -> NotYamlError:
    return NotYamlError(f"holds more than {MOST_TEXT:,} characters; a few lines are enough")


class _Reader:
    """Values from the parser's events, and how many there are."""

    def __init__(self, text: str) -> None:
        self.events: Iterator[Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.count = 0
        # by anchor: the value, and how many values it stands for
        self.anchors: dict[str, tuple[Any, int]] = {}

    def document(self) -> Any:
        next(self.events)  # the stream begins
        if not isinstance(next(self.events), DocumentStartEvent):
            return None
        value = self.value(next(self.events), ())
        next(self.events)  # the document ends
        if isinstance(second := next(self.events), DocumentStartEvent):
            raise NotYamlError("a second document begins; keep one", _line(second))
        return value

    def value(self, event: Event, path: tuple[str, ...]) -> Any:
        """What begins with this event; `path` are the keys above it."""
        if isinstance(event, AliasEvent):
            return self.alias(event, ".".join(path))
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        if event.tag not in (None, STRING):
            tag = clipped(event.tag).replace(STANDARD, "!!")
            raise NotYamlError(f"the tag {tag} is not allowed; write the value alone", _line(event))
        if len(path) > DEEPEST:
            raise NotYamlError(f"is nested more than {DEEPEST} deep", _line(event), path[0])
        before = self.count
        self.add(1, event)
        if isinstance(event, SequenceStartEvent):
            value: Any = self.sequence(path)
        elif isinstance(event, MappingStartEvent):
            value = self.mapping(path)
        else:
            value = _scalar(event, ".".join(path))
        if event.anchor:
            self.anchors[event.anchor] = value, self.count - before
        return value

    def alias(self, event: AliasEvent, key: str) -> Any:
        """The value of an anchor that has ended, counted once more."""
        name = event.anchor or ""
        if name not in self.anchors:
            raise NotYamlError(f"*{clipped(name)} stands before its anchor ends", _line(event), key)
        value, size = self.anchors[name]
        self.add(size, event)
        return value

    def add(self, count: int, event: Event) -> None:
        self.count += count
        if self.count > MOST_VALUES:
            raise NotYamlError(f"holds more than {MOST_VALUES:,} values", _line(event))

    def sequence(self, path: tuple[str, ...]) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            found.append(self.value(event, (*path, str(len(found)))))
        return found

    def mapping(self, path: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[Any] = []
        lines: dict[str, int] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise NotYamlError(
                    "a key is a list or a mapping; write a word", _line(event), ".".join(path)
                )
            name = _text(event, ".".join(path))
            below = (*path, name)
            if name in lines:
                places = f"in line {lines[name]} and again in line {_line(event)}"
                raise NotYamlError(f"stands {places}; keep one of them", key=".".join(below))
            lines[name] = _line(event)
            value = self.value(next(self.events), below)
            if name == MERGE and event.implicit[0]:
                merged += value if isinstance(value, list) else [value]
            else:
                found[name] = value
        for other in merged:
            if not isinstance(other, dict):
                raise NotYamlError(
                    "merges what is no mapping", lines[MERGE], ".".join((*path, MERGE))
                )
            found = {**other, **found}
        return found


def _scalar(event: ScalarEvent, key: str) -> Any:
    """A text, a number, true, false or nothing."""
    text = _text(event, key)
    if event.tag == STRING or not event.implicit[0]:  # in quotes
        return text
    if text in CONSTANTS:
        return CONSTANTS[text]
    if NOT_FINITE.fullmatch(text):
        raise NotYamlError(f"{text} is not a finite number", _line(event), key)
    kinds = ((WHOLE, int), (OTHER_BASE, lambda digits: int(digits, 0)), (REAL, float))
    for pattern, number in kinds:
        if not pattern.fullmatch(text):
            continue
        if len(text) > LONGEST_NUMBER:
            raise NotYamlError(f"a number of {len(text):,} digits", _line(event), key)
        if not isfinite(found := number(text)):
            raise NotYamlError(f"{text} is too large for a number", _line(event), key)
        return found
    return text


def _text(event: ScalarEvent, key: str) -> str:
    text = event.value
    if len(text) > MOST_CHARACTERS:
        reason = f"a text of {len(text):,} characters, of at most {MOST_CHARACTERS:,}"
        raise NotYamlError(reason, _line(event), key)
    if unseen := UNSEEN.search(text):
        raise NotYamlError(
            f"holds the character {unseen[0]!r}, which is not printed", _line(event), key
        )
    return text


def _line(event: Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1
