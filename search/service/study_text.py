"""A study file's text, changed key by key: comments, order and everything else stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node

from storage.yaml_text import parsed

REMOVED = None  # as a value: the key goes, and its default holds


def changed(text: str, changes: Mapping[str, Any]) -> str:
    """The text with these values by dotted key, `budget.trials`; a value of None takes the key out.

    Raises ValueError where the text is no mapping, or a change would touch more than its key, as with YAML's anchors.
    """
    for key, value in changes.items():
        text = _with(text, key.split("."), value)
    return text


def line_of(text: str, key: str) -> int | None:
    """The line (from 1) of a dotted key, or of the nearest key above it; None where none of it stands there."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    line = None
    for part in key.split("."):
        entry = _entry(node, part)
        if entry is None:
            break
        line, node = entry[0].start_mark.line + 1, entry[1]
    return line


def _with(text: str, path: Sequence[str], value: Any) -> str:
    before = parsed(text)
    if not isinstance(before, dict):
        raise ValueError("the study file must be a mapping with study, data and families")
    wanted = _put(before, path, value)
    if wanted == before:
        return text
    text = text if text.endswith("\n") else f"{text}\n"
    root = yaml.compose(text, yaml.SafeLoader)
    assert root is not None
    after = _spliced(text, root, path, value)
    if parsed(after) != wanted:
        raise ValueError(f"{'.'.join(path)}: cannot be changed here; change it in the text")
    return after


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """The values with one more or changed; without an entry that is removed."""
    key, *rest = path
    if not rest:
        kept = {name: one for name, one in values.items() if name != key}
        return kept if value is REMOVED else {**values, key: value}
    below = values.get(key)
    if value is REMOVED and not isinstance(below, dict):
        return values
    return {**values, key: _put(below if isinstance(below, dict) else {}, rest, value)}


def _spliced(text: str, node: Node, path: Sequence[str], value: Any) -> str:
    """The text with the value of the path below a mapping node replaced, removed or added."""
    assert isinstance(node, MappingNode)
    key, *rest = path
    entry = _entry(node, key)
    if entry is None:
        for part in reversed(rest):
            value = {part: value}
        return _added(text, node, key, value)
    name, below = entry
    if (
        value is REMOVED
        and len(rest) == 1
        and isinstance(below, MappingNode)
        and len(below.value) == 1
    ):
        rest, value = [], {}
    if rest and isinstance(below, MappingNode) and below.value:
        return _spliced(text, below, rest, value)
    if value is REMOVED:
        return _removed(text, node, entry)
    for part in reversed(rest):
        value = {part: value}
    colon = text.index(":", name.end_mark.index) + 1
    return f"{text[:colon]} {_flow(value)}{text[_end(below) :]}"


def _added(text: str, node: MappingNode, key: str, value: Any) -> str:
    """With a new entry behind the mapping's last one."""
    said = f"{key}: {_flow(value)}"
    if node.flow_style:
        close = node.end_mark.index - 1
        comma = ", " if node.value else ""
        return f"{text[:close].rstrip()}{comma}{said}{text[close:]}"
    last = _end(node)
    line_end = text.index("\n", last)
    column = node.value[0][0].start_mark.column
    return f"{text[:line_end]}\n{' ' * column}{said}{text[line_end:]}"


def _removed(text: str, node: MappingNode, entry: tuple[Node, Node]) -> str:
    """Without the entry: its lines in a block, its place between commas in a flow mapping."""
    begin, end = entry[0].start_mark.index, _end(entry[1])
    if not node.flow_style:
        return (
            text[: text.rindex("\n", 0, begin) + 1 if begin else 0]
            + text[text.index("\n", end) + 1 :]
        )
    index = node.value.index(entry)
    if index + 1 < len(node.value):
        return text[:begin] + text[node.value[index + 1][0].start_mark.index :]
    if index:
        return text[: _end(node.value[index - 1][1])] + text[end:]
    return text[:begin] + text[end:]


def _entry(node: Node | None, key: str) -> tuple[Node, Node] | None:
    if not isinstance(node, MappingNode):
        return None
    return next((one for one in node.value if one[0].value == key), None)


def _end(node: Node) -> int:
    """Where what is written of a node ends; a block has no mark of that."""
    if not isinstance(node, CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _flow(value: Any) -> str:
    """The value as it stands behind a key, on one line; in quotes where a flow mapping needs them."""
    text = yaml.safe_dump(
        [value], default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return str(text).strip().removeprefix("[").removesuffix("]")
