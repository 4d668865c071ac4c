"""A flag file's text with one value changed.

Only the value's own characters are replaced, at the place where the YAML parser found them: comments, order, blank
lines and quoting elsewhere stay as the person wrote them, byte for byte. The result is read back and compared with
what was meant before it is returned.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from ruamel.yaml.nodes import SequenceNode

from monitoring.errors import InvalidFlags
from monitoring.flags.loading import (
    BEFORE,
    VERSION,
    client_id,
    compose,
    items,
    line,
    load,
    member,
    stage,
    switch,
    weight,
)
from monitoring.flags.model import SWITCHES, ClientId, Cohort, Flags, ValueType, cohort_of, keys_of
from monitoring.flags.stages import percent_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ruamel.yaml.nodes import Node, ScalarNode


def edit(text: str, key: str, value: str) -> str:
    """Return the text with ``key`` (dotted, one of `keys_of`) set to ``value``.

    Lists take ids separated by commas, and an empty value for none. Raises InvalidFlags for an unknown key, a value
    of the wrong form, and a text that is not a valid flag file to begin with.
    """
    flags = load(text)
    keys = keys_of(flags)
    if key not in keys:
        raise InvalidFlags(f"key {key!r} is not known; known are {', '.join(keys)}")
    wanted = _with(flags, key, value)
    node = compose(text).get(key)
    if node is None:  # a file from before this key
        return edit(_upgraded(text), key, value)
    match keys[key].type:
        case ValueType.PERCENT:
            edited = _spliced(text, node, percent_text(weight(value.strip(), key)))
        case ValueType.SWITCH | ValueType.STAGE:
            edited = _spliced(text, node, value.strip())
        case ValueType.CLIENTS | ValueType.MEMBERS:
            clients = _split(value, key, keys[key].type)
            edited = _block(text, node, clients, key) if _is_block(node) else _flow(text, node, clients)
        case _:
            assert_never(keys[key].type)
    _check(edited, wanted, key, line(node))
    return edited


def _with(flags: Flags, key: str, value: str) -> Flags:  # noqa: PLR0911 - one for each key
    if (found := cohort_of(key)) is not None:
        name, last = found
        changed = tuple(
            _cohort_with(cohort, last, key, value) if cohort.name == name else cohort
            for cohort in flags.cohorts
        )
        return replace(flags, cohorts=changed)
    match key:
        case "kill":
            return replace(flags, kill=switch(value.strip(), key))
        case "stage":
            return replace(flags, stage=stage(value.strip(), key))
        case "live.percent":
            return replace(flags, weight=weight(value.strip(), key))
        case "live.allow":
            return replace(flags, allow=frozenset(ClientId(text) for text in _split(value, key)))
        case _ if key in SWITCHES:
            off = flags.switched_off - {key} if switch(value.strip(), key) else flags.switched_off | {key}
            return replace(flags, switched_off=off)
        case _:
            return replace(flags, deny=frozenset(ClientId(text) for text in _split(value, key)))


def _cohort_with(cohort: Cohort, last: str, key: str, value: str) -> Cohort:
    match last:
        case "clients":
            return replace(cohort, members=frozenset(_split(value, key, ValueType.MEMBERS)))
        case "stage":
            return replace(cohort, wish=replace(cohort.wish, stage=stage(value.strip(), key)))
        case _:
            return replace(cohort, wish=replace(cohort.wish, weight=weight(value.strip(), key)))


def _upgraded(text: str) -> str:
    """Return a file of an earlier form in today's, meaning the same: what it lacks stands before its last line."""
    has = compose(text)
    added = [] if "stage" in has else ["stage: live   # how far the migration may go", "cohorts: {}"]
    if not any(name in has for name in SWITCHES):
        added += [
            "# What is pushed; false: polled over HTTP instead.",
            *(f"{name}: true" for name in SWITCHES),
        ]
    body = text.rstrip()
    end = body.rindex("\n") + 1
    block = "".join(f"{each}\n" for each in added)
    return re.sub(
        rf"^version:([ ]+){BEFORE}\b",
        rf"version:\g<1>{VERSION}",
        f"{body[:end]}{block}\n{text[end:]}",
        flags=re.MULTILINE,
    )


def _split(value: str, key: str, form: ValueType = ValueType.CLIENTS) -> list[str]:
    texts = [text.strip() for text in value.split(",")] if value.strip() else []
    read = client_id if form is ValueType.CLIENTS else member
    return list(dict.fromkeys(str(read(text, key)) for text in texts))


def _is_block(node: Node) -> bool:
    return isinstance(node, SequenceNode) and not node.flow_style


def _spliced(text: str, node: Node, value: str) -> str:
    return text[: node.start_mark.index] + value + text[node.end_mark.index :]


def _flow(text: str, node: Node, clients: Sequence[str]) -> str:
    return _spliced(text, node, f"[{', '.join(clients)}]")


def _block(text: str, node: Node, clients: Sequence[str], key: str) -> str:
    """Edit a list that is written with one ``- entry`` a line: entries that stay keep their line and comment."""
    entries = items(node, key)
    lines = text.split("\n")
    kept = {str(entry.value) for entry in entries} & set(clients)
    indent = " " * node.start_mark.column
    added = [f"{indent}- {client}" for client in clients if client not in kept]
    numbers = {entry.start_mark.line: str(entry.value) for entry in entries}
    last = max(numbers)
    out: list[str] = []
    for number, content in enumerate(lines):
        if numbers.get(number, "") in kept or number not in numbers:
            out.append(content)
        if number == last:
            out += added
    if clients:
        return "\n".join(out)
    return _emptied(out, entries, lines)


def _emptied(out: list[str], entries: Sequence[ScalarNode], lines: Sequence[str]) -> str:
    """Put ``[]`` after the key, whose line is the last one before the first entry that is not a comment."""
    before = range(entries[0].start_mark.line - 1, -1, -1)
    at = next(
        number for number in before if lines[number].strip() and not lines[number].lstrip().startswith("#")
    )
    head, colon, rest = out[at].partition(":")
    return "\n".join([*out[:at], f"{head}{colon} []{rest}", *out[at + 1 :]])


def _check(edited: str, wanted: Flags, key: str, at_line: int) -> None:
    """Refuse an edit that does not read back as what was meant: the file has a form that is not foreseen here."""
    try:
        right = load(edited) == wanted
    except InvalidFlags:
        right = False
    if not right:
        raise InvalidFlags(
            f"{key} is written in a form that cannot be changed by a program; change it in an editor",
            line=at_line,
        )
