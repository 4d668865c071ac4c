"""Cuts SQL text into statements without understanding it: only what may hide a semicolon is recognised.

PostgreSQL documentation, "SQL Syntax, Lexical Structure": quoted identifiers, string constants (plain, E'', dollar
quoted), line comments, nested block comments. Bodies of the form BEGIN ATOMIC ... END are recognised too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPECIAL = re.compile(
    r"""(?P<line>--[^\n]*)
      | (?P<block>/\*)
      | (?P<dollar>(?<![\w$])\$(?:[A-Za-z_\u0080-\uffff][\w]*)?\$)
      | (?P<escape>(?<!\w)[eE]'(?:[^'\\]|\\.|'')*'?)
      | (?P<string>'(?:[^']|'')*'?)
      | (?P<name>"(?:[^"]|"")*"?)
      | (?P<end>;)
      | (?P<word>\w+)
      | (?P<other>\S)""",
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its semicolon; ``line`` is where its first character stands, from 1."""

    text: str
    line: int
    first_words: tuple[str, ...]


def split(sql: str) -> list[Statement]:
    """Return the statements of ``sql`` in order, comments inside them kept, empty ones left out.

    What is left open at the end (a quote, a comment) belongs to the last statement: PostgreSQL says best what is wrong.
    """
    statements: list[Statement] = []
    words: list[str] = []
    first: int | None = None  # where it says something
    atomic = 0
    position = 0
    while found := _SPECIAL.search(sql, position):
        position = found.end()
        kind = found.lastgroup
        if kind == "line":
            continue
        if kind == "block":
            position = _end_of_comment(sql, position)
            continue
        if kind == "end" and not atomic:
            if first is not None:
                statements.append(_statement(sql, first, found.start(), words))
            words, first = [], None
            continue
        if first is None:
            first = found.start()
        if kind == "dollar":
            closing = sql.find(found[0], position)
            position = len(sql) if closing < 0 else closing + len(found[0])
        elif kind == "word":
            words.append(found[0].lower())
            atomic = _atomic_depth(words, atomic)
    if first is not None:
        statements.append(_statement(sql, first, len(sql), words))
    return statements


def _statement(sql: str, start: int, end: int, words: list[str]) -> Statement:
    return Statement(sql[start:end].rstrip(), sql.count("\n", 0, start) + 1, tuple(words[:3]))


def _end_of_comment(sql: str, position: int) -> int:
    depth = 1
    while depth:
        edge = _BLOCK_EDGE.search(sql, position)
        if edge is None:
            return len(sql)
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position


def _atomic_depth(words: list[str], depth: int) -> int:
    """Follow BEGIN ATOMIC ... END of SQL functions; CASE ... END nests inside."""
    if depth == 0:
        return 1 if words[-2:] == ["begin", "atomic"] and words[0] in ("create", "alter") else 0
    if words[-1] == "case":
        return depth + 1
    return depth - 1 if words[-1] == "end" else depth
