"""A YAML document, strictly, as plain data that knows its lines: pure.

Duplicate keys, anchors, tags and what would not be JSON are refused, so that what is read is what a person sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from monitoring.yaml_text import YamlError, composed

MAX_CHARACTERS = 1_000_000
_TAGS = "tag:yaml.org,2002:"

Place = tuple[str | int, ...]
"""Where a value stands: keys and indexes from the root."""


class InvalidChecks(ValueError):  # noqa: N818 - named for what it is
    """The file cannot be meant; ``line`` counts from 1, None when no line is to blame."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.reason = reason
        self.line = line


@dataclass(slots=True)
class Document:
    """The data, and the line of each key and entry."""

    data: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int | None:
        """Return the line of a place, or of the nearest one around it that is written down."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


def read_document(text: str) -> Document:
    """Return what a document says; raises InvalidChecks."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidChecks(f"the file has {len(text):,} characters, more than {MAX_CHARACTERS:,}")
    try:
        root = composed(text)
    except YamlError as error:
        raise InvalidChecks(str(error), error.line) from None
    if root is None:
        raise InvalidChecks("the file is empty; write `checks: {}` for none")
    document = Document(None)
    document.data = _value(root, (), document.lines)
    return document


def _value(node: Node, place: Place, lines: dict[Place, int]) -> Any:
    line = int(node.start_mark.line) + 1
    lines.setdefault(place, line)
    if node.anchor is not None or not str(node.tag or _TAGS).startswith(_TAGS):
        raise InvalidChecks("anchors and tags are not read here; write it out", line)
    match node:
        case MappingNode():
            return _mapping(node, place, lines)
        case SequenceNode():
            return [_value(entry, (*place, index), lines) for index, entry in enumerate(node.value)]
        case ScalarNode():
            return _scalar(node, line)
        case _:
            raise InvalidChecks("this cannot be read", line)


def _mapping(node: MappingNode, place: Place, lines: dict[Place, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value in node.value:
        line = int(key_node.start_mark.line) + 1
        if not isinstance(key_node, ScalarNode):
            raise InvalidChecks("a key must be a word", line)
        key = str(key_node.value)
        if key in found:
            raise InvalidChecks(f"{key} is there twice", line)
        lines[(*place, key)] = line
        found[key] = _value(value, (*place, key), lines)
    return found


def _scalar(node: ScalarNode, line: int) -> Any:
    text, kind = str(node.value), str(node.tag).removeprefix(_TAGS)
    if node.style is not None:
        return text
    try:
        match kind:
            case "null":
                return None
            case "bool":
                return text.lower() in {"true", "yes", "on"}
            case "int":
                return int(text)
            case "float":
                return float(text)
            case _:
                return text
    except ValueError:
        raise InvalidChecks(f"{text!r} is no number that is read here; put it in quotes", line) from None
