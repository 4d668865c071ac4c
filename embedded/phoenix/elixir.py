"""Values as Elixir's `inspect/1` prints them, because error texts of the real server contain such prints.

Clients show these texts and tests of others compare them, so they are reproduced: strings in double quotes,
`nil`, `%{"k" => v}` maps with sorted keys, and breaking of what does not fit into 80 columns.
"""

from __future__ import annotations

import json
from typing import Any, Final

_WIDTH: Final = 80


def inspect(value: Any) -> str:
    """Return `value` (JSON values, and tuples for Elixir tuples) as Elixir prints it."""
    flat = _flat(value)
    if len(flat) <= _WIDTH or not isinstance(value, (list, dict)):
        return flat
    if isinstance(value, dict):
        body = ",\n  ".join(f"{_flat(k)} => {_flat(v)}" for k, v in sorted(value.items()))
        return f"%{{\n  {body}\n}}"
    body = ",\n  ".join(_filled(item, indent=2) for item in value)
    return f"[\n  {body}\n]"


def _flat(value: Any) -> str:  # noqa: PLR0911  # one per kind of value
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("#{", "\\#{")
        case dict():
            body = ", ".join(f"{_flat(k)} => {_flat(v)}" for k, v in sorted(value.items()))
            return f"%{{{body}}}"
        case list():
            return "[" + ", ".join(map(_flat, value)) + "]"
        case tuple():
            return "{" + ", ".join(map(_flat, value)) + "}"
        case _:
            return str(value)


def _filled(value: Any, *, indent: int) -> str:
    """Return a tuple with as many items on a line as fit, others flat."""
    flat = _flat(value)
    if not isinstance(value, tuple) or indent + len(flat) <= _WIDTH:
        return flat
    text, column = "{", indent + 1
    for position, item in enumerate(value):
        part = _flat(item) + ("," if position < len(value) - 1 else "}")
        if position and column + 1 + len(part) > _WIDTH:
            text += "\n" + " " * (indent + 1)
            column = indent + 1
        elif position:
            text += " "
            column += 1
        text += part
        column += len(part)
    return text
