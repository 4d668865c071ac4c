"""The rule file: strict reading, with the line of every mistake, and a watch that keeps the last good rules in force.

Like ``flags.yaml``: every key is known, none is there twice, nothing is guessed from YAML's types, and a file that was cut
short does not end with ``end: true`` and is refused. What is refused changes nothing: the last good rules stay, also for a
process that starts meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import Field, TypeAdapter, ValidationError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from alerting.errors import InvalidRules
from alerting.rule_mistakes import mistakes
from alerting.rules import (
    Absence,
    Channel,
    Composite,
    Grouping,
    Maintenance,
    Rate,
    Rules,
    StateRule,
    Threshold,
)
from monitoring.yaml_text import YamlError, composed

MAX_CHARACTERS = 500_000
POLL_SECONDS = 0.5

_DURATIONS = frozenset(
    {"for", "cooldown", "no_data_after", "over", "after", "lasts", "every", "wait", "interval"}
)
_NUMBERS = frozenset({"above", "below", "clear", "burst"})
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_SECONDS = 366 * 86400
_RENAMED = {"for": "for_"}
_Path = tuple[str | int, ...]
_RULE_KINDS = {
    "threshold": Threshold,
    "rate": Rate,
    "state": StateRule,
    "absence": Absence,
    "composite": Composite,
}

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Any]:
    rule = Annotated[Threshold | Rate | StateRule | Absence | Composite, Field(discriminator="kind")]
    return TypeAdapter(rule)


@lru_cache(maxsize=8)
def _plain_adapter(of: type) -> TypeAdapter[Any]:
    return TypeAdapter(of)


def load(text: str) -> Rules:
    """Return what a rule file says; raises InvalidRules with the line to blame."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidRules(f"the file has {len(text):,} characters, more than {MAX_CHARACTERS:,}")
    lines: dict[_Path, int] = {}
    top = _plain(_parse(text), (), lines)
    if not isinstance(top, dict):
        raise InvalidRules("must be keys and values: version, channels, rules, ..., end", line=1)
    known = {"version", "channels", "grouping", "maintenance", "rules", "end"}
    for key in top:
        if key not in known:
            raise InvalidRules(
                f"{key!r} is no key here; keys are {', '.join(sorted(known))}", line=lines[key,]
            )
    if top.get("version") != "1":
        raise InvalidRules("`version: 1` is missing, or another version", line=lines.get(("version",), 1))
    if top.get("end") != "true" or text.rstrip().rpartition("\n")[2] != "end: true":
        raise InvalidRules(
            "the last line must be `end: true` and nothing may follow it; a file that was cut short is refused",
            line=len(text.splitlines()),
        )
    rules = Rules(
        rules=tuple(_each(top, "rules", _adapter(), lines)),
        channels=tuple(_each(top, "channels", _plain_adapter(Channel), lines)),
        maintenance=tuple(_each(top, "maintenance", _plain_adapter(Maintenance), lines)),
        grouping=_one(top.get("grouping") or {}, ("grouping",), _plain_adapter(Grouping), lines),
    )
    for where, what in mistakes(rules):
        raise InvalidRules(f"{_shown(where)}: {what}", line=_line(where, lines))
    return rules


def _each(
    top: Mapping[str, Any], section: str, adapter: TypeAdapter[Any], lines: Mapping[_Path, int]
) -> list[Any]:
    entries = top.get(section)
    if entries in (None, ""):
        return []
    if not isinstance(entries, list):
        raise InvalidRules(f"{section} must be a list", line=lines[section,])
    return [_one(entry, (section, index), adapter, lines) for index, entry in enumerate(entries)]


def _one(value: Any, at: _Path, adapter: TypeAdapter[Any], lines: Mapping[_Path, int]) -> Any:
    if not isinstance(value, dict):
        raise InvalidRules(f"{_shown(at)} must be keys and values", line=_line(at, lines))
    read = {_RENAMED.get(key, key): _typed(key, each, (*at, key), lines) for key, each in value.items()}
    try:
        return adapter.validate_python(read)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        steps = [step for step in first["loc"] if step not in _RULE_KINDS]
        where = (*at, *(str(step).rstrip("_") if isinstance(step, str) else step for step in steps))
        raise InvalidRules(f"{_shown(where)}: {_message(first, value)}", line=_line(where, lines)) from None


def _message(error: Any, value: Mapping[str, Any]) -> str:
    if error["type"] == "union_tag_not_found":
        return f"kind is missing; kinds are {', '.join(_RULE_KINDS)}"
    if error["type"] == "union_tag_invalid":
        return f"there is no kind {value.get('kind')!r}; kinds are {', '.join(_RULE_KINDS)}"
    if error["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        kind = _RULE_KINDS.get(str(value.get("kind")))
        there = f"; keys are {', '.join(_keys(kind))}" if kind is not None else ""
        return f"is no key here{there}"
    if error["type"] in {"missing_argument", "missing_keyword_only_argument", "missing"}:
        return "is missing"
    return str(error["msg"])


def _keys(kind: type) -> list[str]:
    assert is_dataclass(kind)  # noqa: S101 - of the table above
    required = [each.name.rstrip("_") for each in fields(kind) if each.default is MISSING]
    return [*required, *(each.name.rstrip("_") for each in fields(kind) if each.default is not MISSING)]


def _typed(key: str, value: Any, at: _Path, lines: Mapping[_Path, int]) -> Any:
    """Return a scalar as its key means it; YAML's own guesses (``no``, ``1e3``, ``12:30``) are not asked."""
    if key in _DURATIONS:
        seconds = _seconds(value) if isinstance(value, str) else None
        if seconds is None or seconds > _LONGEST_SECONDS:
            raise InvalidRules(
                f"{_shown(at)}: {value!r} is not a duration; write for example 30s, 10m, 1h30m, 0s",
                line=_line(at, lines),
            )
        return timedelta(seconds=seconds)
    if key in _NUMBERS and isinstance(value, str):
        try:
            number = float(value) if key != "burst" else int(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InvalidRules(f"{_shown(at)}: {value!r} is not a number", line=_line(at, lines))
        return number
    if key == "notify":
        if value not in {"true", "false"}:
            raise InvalidRules(f"{_shown(at)}: write true or false", line=_line(at, lines))
        return value == "true"
    return value


def _seconds(text: str) -> float | None:
    steps = _STEP.findall(text)
    if not steps or "".join(number + unit for number, unit in steps) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in steps)


def _shown(at: _Path) -> str:
    return ".".join(str(step + 1) if isinstance(step, int) else step for step in at)


def _line(at: _Path, lines: Mapping[_Path, int]) -> int | None:
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def _parse(text: str) -> Node:
    try:
        node = composed(text)
    except YamlError as error:
        raise InvalidRules(str(error), line=error.line) from None
    if node is None:
        raise InvalidRules("the file is empty")
    return node


def _plain(node: Node, at: _Path, lines: dict[_Path, int]) -> Any:
    """Return a node as dicts, lists and text, and note the line of each."""
    lines[at] = line = int(node.start_mark.line) + 1
    if node.anchor:
        raise InvalidRules("write it out: anchors are not read here", line=line)
    if isinstance(node, ScalarNode):
        return str(node.value)
    if isinstance(node, SequenceNode):
        return [_plain(each, (*at, index), lines) for index, each in enumerate(node.value)]
    if isinstance(node, MappingNode):
        found: dict[str, Any] = {}
        for key_node, value in node.value:
            if not isinstance(key_node, ScalarNode):
                raise InvalidRules("a key must be text", line=int(key_node.start_mark.line) + 1)
            key = str(key_node.value)
            if key in found:
                raise InvalidRules(f"{key!r} is there twice", line=int(key_node.start_mark.line) + 1)
            found[key] = _plain(value, (*at, key), lines)
            lines[*at, key] = int(key_node.start_mark.line) + 1
        return found
    raise InvalidRules("cannot be read", line=line)


def read(path: Path) -> Rules:
    """Return the rules of a file; raises InvalidRules, which names no file, or OSError."""
    with path.open("rb") as file:
        data = file.read(4 * MAX_CHARACTERS + 1)
    return _decoded(data)


def _decoded(data: bytes) -> Rules:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRules("not UTF-8 text", line=line) from None
    return load(text)


class RuleFile:
    """The rules of a file, kept up to date by ``run``; ``kept`` is where the last good text is kept."""

    def __init__(self, path: Path, kept: Path, *, poll_seconds: float = POLL_SECONDS) -> None:
        self.path = path
        self.problem: str | None = None
        """What is wrong with the file now, in one sentence; None when nothing is."""
        self.revision = 0
        """How many times rules were accepted."""
        self._kept = kept
        self._poll_seconds = poll_seconds
        self._rules = Rules()
        self._seen: bytes | OSError | None = None

    def current(self) -> Rules:
        """Return the rules in force: the last good ones; none at all before there were any."""
        return self._rules

    def refresh(self) -> Rules:
        """Look at the file now, blocking, and return the rules in force."""
        self._accept(self._look())
        return self._rules

    async def run(self) -> NoReturn:
        """Watch the file until cancelled."""
        while True:
            self._accept(await asyncio.to_thread(self._look))
            await asyncio.sleep(self._poll_seconds)

    def _look(self) -> bytes | OSError:
        try:
            with self.path.open("rb") as file:
                return file.read(4 * MAX_CHARACTERS + 1)
        except OSError as error:
            return error

    def _accept(self, found: bytes | OSError) -> None:
        if isinstance(found, OSError):
            self._refuse(f"{self.path} cannot be read: {found.strerror or found}")
            self._seen = found
            return
        if found == self._seen:
            return
        self._seen = found
        try:
            rules = _decoded(found)
        except InvalidRules as error:
            self._refuse(f"{self.path}: {error}")
            return
        if self.problem is not None:
            _log.info("the rules are good again: %s", self.path)
        self.problem = None
        self._enforce(rules)
        try:
            temporary = self._kept.with_name(f".{self._kept.name}.new")
            with open(temporary, "wb", opener=_private) as file:
                file.write(found)
            temporary.replace(self._kept)
        except OSError as error:
            _log.warning("the good rules cannot be kept for the next start: %s: %s", self._kept, error)

    def _refuse(self, problem: str) -> None:
        if not self.revision:
            self._recall()
        sentence = (
            f"{problem}; {'the last good rules stay in force' if self.revision else 'no rules are in force'}"
        )
        if sentence != self.problem:
            _log.warning("rules refused: %s", sentence)
        self.problem = sentence

    def _recall(self) -> None:
        try:
            self._enforce(read(self._kept))
        except FileNotFoundError:
            pass
        except (OSError, InvalidRules) as error:
            _log.warning("the last good rules cannot be read: %s: %s", self._kept, error)

    def _enforce(self, rules: Rules) -> None:
        self._rules = rules
        self.revision += 1


def _private(path: str, flags: int) -> int:
    """Open a file for its owner only: the URLs of channels are secrets."""
    return os.open(path, flags, 0o600)
