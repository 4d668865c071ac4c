"""A function made for each table that turns the stream's row into JSON bytes in one pass. Pure.

It is straight-line code, without a loop or a look at types, and leaves values that are their own JSON as the bytes
they came in; that is what lets one core decode a hundred thousand rows a second. Only column positions get into the
code, as numbers; names and encoders are values that it closes over.
"""

from __future__ import annotations

import struct
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import orjson

from embedded.wal.values import column_encoder, is_json_already, jsonb_key_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedded.wal.model import Column

_KIND_AND_SIZE = struct.Struct("!BI")
_PADDING = b"\0" * _KIND_AND_SIZE.size  # a NULL at the end has no size behind it

_COLUMN = """
    kind, size = unpack(padded, position)
    if kind == 116:
        start = position + 5
        position = start + size
        {value}
    elif kind == 110:
        position += 1
        v{index} = b"null"
    else:
        return None
"""
_VALUES = {
    "as it is": "v{index} = message[start:position]",
    "text": "v{index} = dumps(message[start:position].decode())",
    "bool": 'v{index} = b"true" if message[start:position] == b"t" else b"false"',
    # most numbers are their own JSON; the others have an exponent, a sign, a zero in front or letters
    "number": """v{index} = message[start:position]
        if not 49 <= message[start] <= 57 or b"e" in v{index}:
            v{index} = encode{index}(v{index}.decode()).encode()""",
    "other": "v{index} = encode{index}(message[start:position].decode()).encode()",
}


def row_encoder(columns: Sequence[Column]) -> Callable[[bytes, int], bytes | None]:
    """Return the function from a message and the position behind its column count to the row's JSON object.

    It returns None for what it leaves to the general way: a value that was not sent, a message that does not end with
    the row. Of a message that is cut short it may also raise struct.error, IndexError or UnicodeDecodeError.
    """
    names: dict[str, Any] = {"unpack": _KIND_AND_SIZE.unpack_from, "padding": _PADDING, "dumps": orjson.dumps}
    body = []
    for index, column in enumerate(columns):
        encode = names[f"encode{index}"] = column_encoder(column.type)
        if is_json_already(column.type):
            way = "as it is"
        elif encode is encode_basestring:
            way = "text"
        elif column.type.shape in ("bool", "number") and column.type.element is column.type.base is None:
            way = column.type.shape
        else:
            way = "other"
        body.append(_COLUMN.format(index=index, value=_VALUES[way].format(index=index)))
    parts = []
    order = sorted(range(len(columns)), key=lambda index: jsonb_key_order(columns[index].name))
    for place, index in enumerate(order):
        key = encode_basestring(columns[index].name)
        names[f"key{place}"] = f"{', ' if place else '{'}{key}: ".encode()
        parts.append(f"key{place}, v{index}, ")
    names["end"] = b"}" if columns else b"{}"
    code = (
        f"def encode(message, position):\n    padded = message + padding{''.join(body)}\n"
        "    if position != len(message):\n        return None\n"
        f'    return b"".join(({"".join(parts)}end,))\n'
    )
    exec(code, names)  # noqa: S102  # made of numbers alone
    made: Callable[[bytes, int], bytes | None] = names["encode"]
    return made
