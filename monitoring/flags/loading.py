"""Text to Flags, strictly.

Routing is a safety mechanism, so nothing is guessed: every key must be there, once, with a value of its own form.
The values are read from the YAML *nodes* rather than from constructed objects, because YAML itself would make
``05`` the number 5, and ``no`` a text. A file that was cut short never ends with its ``end: true`` line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from monitoring.errors import InvalidFlags
from monitoring.flags.model import (
    CLIENT_ID,
    COHORT,
    COHORT_KEYS,
    DEFAULT_COHORT,
    PATTERN,
    PERCENT_SCALE,
    SWITCHES,
    ClientId,
    Cohort,
    Flags,
    ValueType,
)
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Stage
from monitoring.yaml_text import YamlError, composed

VERSION = "2"
BEFORE = "1"
"""Files from before the stages: without ``stage`` and ``cohorts``, which is stage live for everybody."""
MAX_CHARACTERS = 1_000_000
"""A longer file is refused: reading it would hold up the process (a megabyte takes seconds)."""

_PERCENT = re.compile(r"(0|[1-9][0-9]{0,2})(?:\.([0-9]{1,3}))?\Z")
_SWITCH = {"true": True, "false": False}
_TOP = {
    VERSION: ("version", "kill", "stage", "live", "cohorts", *SWITCHES, "end"),
    BEFORE: ("version", "kill", "live", *SWITCHES, "end"),
}
_LIVE = ("percent", "allow", "deny")

_N = TypeVar("_N", bound=Node)


def load(text: str) -> Flags:
    """Return what a flag file says; raises InvalidFlags with the line to blame."""
    nodes = compose(text)
    found = Flags(
        kill=_switch(nodes, "kill"),
        weight=_weight(nodes, "live.percent"),
        allow=frozenset(client_id(*each) for each in _entries(nodes, "live.allow")),
        deny=frozenset(client_id(*each) for each in _entries(nodes, "live.deny")),
        switched_off=frozenset(name for name in SWITCHES if name in nodes and not _switch(nodes, name)),
    )
    if "stage" not in nodes:
        return found
    names = dict.fromkeys(key.split(".")[1] for key in nodes if key.startswith("cohorts."))
    cohorts = (_cohort(nodes, name) for name in names)
    return replace(found, stage=_stage(nodes, "stage"), cohorts=tuple(cohorts))


def compose(text: str) -> Mapping[str, Node]:
    """Return the value node of each key of `keys_of`; raises InvalidFlags when the outer form is wrong.

    Files from before the `SWITCHES` have none of them; one that has some has lost the others.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidFlags(f"the file has {len(text):,} characters, more than {MAX_CHARACTERS:,}")
    root = _parse(text)
    version = _version(root)
    top = _mapping(root, "", _TOP[version], together=tuple(SWITCHES) if version == BEFORE else ())
    live = _mapping(top["live"], "live.", _LIVE)
    _check_end(text, top)
    nodes: dict[str, Node] = {name: top[name] for name in ("kill", "stage") if name in top}
    nodes |= {f"live.{name}": node for name, node in live.items()}
    if "cohorts" in top:
        nodes |= _cohort_nodes(top["cohorts"])
    return nodes | {name: top[name] for name in SWITCHES if name in top}


def _version(root: Node) -> str:
    """Return the version of a file, which says what keys it has; raises InvalidFlags."""
    pairs = root.value if isinstance(root, MappingNode) else []
    found = next((value for key, value in pairs if key.value == "version"), None)
    if found is None:
        return VERSION  # that it is missing is said with everything else that is
    version = scalar(found, "version")
    if version not in _TOP:
        raise InvalidFlags(
            f"version {version!r} is not known here; this program reads {VERSION}, and {BEFORE} from before the stages",
            line=line(found),
        )
    return version


def _cohort_nodes(node: Node) -> dict[str, Node]:
    pairs = _expect(node, MappingNode, "cohorts", "names with their settings, or {} for none").value
    found: dict[str, Node] = {}
    seen: set[str] = set()
    for key_node, value in pairs:
        name = str(_expect(key_node, ScalarNode, "a name in cohorts", "a word").value)
        if not COHORT.match(name) or name == DEFAULT_COHORT:
            raise InvalidFlags(
                f"cohorts: {name!r} is not a name: 1 to 32 small letters, digits and hyphens, and not {DEFAULT_COHORT}, "
                "which is everybody else",
                line=line(key_node),
            )
        if name in seen:
            raise InvalidFlags(f"cohorts names {name} twice", line=line(key_node))
        seen.add(name)
        prefix = f"cohorts.{name}."
        found |= {prefix + last: each for last, each in _mapping(value, prefix, tuple(COHORT_KEYS)).items()}
    return found


def _cohort(nodes: Mapping[str, Node], name: str) -> Cohort:
    prefix = f"cohorts.{name}."
    return Cohort(
        name,
        frozenset(member(*each) for each in _entries(nodes, prefix + "clients")),
        Extent(_stage(nodes, prefix + "stage"), _weight(nodes, prefix + "percent")),
    )


def _switch(nodes: Mapping[str, Node], key: str) -> bool:
    return switch(scalar(nodes[key], key), key, line(nodes[key]))


def _weight(nodes: Mapping[str, Node], key: str) -> int:
    return weight(scalar(nodes[key], key), key, line(nodes[key]))


def _stage(nodes: Mapping[str, Node], key: str) -> Stage:
    return stage(scalar(nodes[key], key), key, line(nodes[key]))


def line(node: Node) -> int:
    """Return the line of a node, counted from 1."""
    return int(node.start_mark.line) + 1


def scalar(node: Node, key: str) -> str:
    """Return the text of a scalar as it was written; raises InvalidFlags for anything else, and for quoted text."""
    plain = _expect(node, ScalarNode, key, "one value")
    if plain.style is not None:
        raise InvalidFlags(f"{key} must be written without quotes", line=line(node))
    return str(plain.value)


def switch(text: str, key: str, at_line: int = 0) -> bool:
    """Read ``true`` or ``false``; raises InvalidFlags."""
    if text not in _SWITCH:
        raise InvalidFlags(f"{key} must be {ValueType.SWITCH}, got {text!r}", line=at_line)
    return _SWITCH[text]


def weight(text: str, key: str, at_line: int = 0) -> int:
    """Read a percentage as thousandths of a percent; raises InvalidFlags."""
    found = _PERCENT.match(text)
    if not found:
        raise InvalidFlags(f"{key} must be {ValueType.PERCENT}, got {text!r}", line=at_line)
    thousandths = int(found[1]) * PERCENT_SCALE + int((found[2] or "").ljust(3, "0"))
    if thousandths > TOTAL_WEIGHT:
        raise InvalidFlags(f"{key} must be {ValueType.PERCENT}, got {text}", line=at_line)
    return thousandths


def client_id(text: str, key: str, at_line: int = 0) -> ClientId:
    """Read a listed client id; raises InvalidFlags."""
    if not CLIENT_ID.match(text):
        raise InvalidFlags(
            f"{key}: {text!r} is not a client id: 1 to 128 letters, digits or . _ : @ / + -, first and last a letter or digit",
            line=at_line,
        )
    return ClientId(text)


def member(text: str, key: str, at_line: int = 0) -> str:
    """Read an entry of a cohort: a client id, or the beginning of ids with a ``*``; raises InvalidFlags."""
    return text if PATTERN.match(text) else client_id(text, key, at_line)


def stage(text: str, key: str, at_line: int = 0) -> Stage:
    """Read a stage; raises InvalidFlags."""
    try:
        return Stage(text)
    except ValueError:
        raise InvalidFlags(f"{key} must be {ValueType.STAGE}, got {text!r}", line=at_line) from None


def _entries(nodes: Mapping[str, Node], key: str) -> Iterator[tuple[str, str, int]]:
    """Give each entry of a list with what is needed to blame it; raises InvalidFlags for one that is there twice."""
    found: set[str] = set()
    for item in items(nodes[key], key):
        text = str(item.value)
        if text in found:
            raise InvalidFlags(f"{key} names {text!r} twice", line=line(item))
        found.add(text)
        yield text, key, line(item)


def items(node: Node, key: str) -> list[ScalarNode]:
    """Return the entries of a list; raises InvalidFlags when it is not a list of single values."""
    entries: list[Node] = _expect(node, SequenceNode, key, "a list such as [one, two], or [] for none").value
    return [_expect(entry, ScalarNode, f"each entry of {key}", "one client id") for entry in entries]


def _parse(text: str) -> Node:
    try:
        root = composed(text)
    except YamlError as error:
        raise InvalidFlags(str(error), line=error.line or 0) from None
    if root is None:
        raise InvalidFlags("the file is empty; a file that was cut short is refused")
    return root


def _mapping(
    node: Node, prefix: str, names: tuple[str, ...], *, together: tuple[str, ...] = ()
) -> dict[str, Node]:
    """Return the value of each name; those of ``together`` may be absent, but only all at once."""
    what = prefix.rstrip(".") or "the file"
    pairs: list[tuple[Node, Node]] = _expect(
        node, MappingNode, what, f"keys and values: {', '.join(names)}"
    ).value
    found: dict[str, Node] = {}
    for key_node, value in pairs:
        name = str(_expect(key_node, ScalarNode, f"a key of {what}", "a word").value)
        if name not in names:
            raise InvalidFlags(
                f"key {prefix}{name} is not known; known are {', '.join(prefix + known for known in names)}",
                line=line(key_node),
            )
        if name in found:
            raise InvalidFlags(f"key {prefix}{name} is there twice", line=line(key_node))
        if isinstance(value, ScalarNode) and not value.value:
            raise InvalidFlags(f"key {prefix}{name} has no value", line=line(key_node))
        found[name] = value
    absent = () if found.keys() & set(together) else together
    if missing := [prefix + name for name in names if name not in found and name not in absent]:
        raise InvalidFlags(
            f"{', '.join(missing)} is missing; a file that was cut short is refused", line=line(node)
        )
    return found


def _expect(node: Node, kind: type[_N], what: str, form: str) -> _N:
    if not isinstance(node, kind):
        raise InvalidFlags(f"{what} must be {form}", line=line(node))
    if node.anchor is not None or not str(node.tag or "tag:yaml.org,2002:").startswith("tag:yaml.org,2002:"):
        raise InvalidFlags(f"{what} must be written out: anchors and tags are not read here", line=line(node))
    return node


def _check_end(text: str, top: Mapping[str, Node]) -> None:
    last = text.rstrip().rpartition("\n")[2]
    if last != "end: true" or scalar(top["end"], "end") != "true":
        raise InvalidFlags(
            "the last line must be `end: true` and nothing may follow it; a file that was cut short is refused",
            line=line(top["end"]),
        )
