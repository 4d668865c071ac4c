"""Messages as frozen dataclasses: their JSON is read and written by what the fields say.

``TYPE`` is the message's ``type``. A field without a default is always written and must be there when read; one with a
default is left out when it has it. ``CAMEL`` writes ``status_detail`` as ``statusDetail``. Times are RFC 3339 in UTC with
milliseconds. Keys that a class does not know are ignored: they are a newer peer's.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import orjson

from legacy_ws.errors import MalformedMessage, UnknownMessage
from legacy_ws.protocol import json_object as obj

_UNDERSCORE = re.compile(r"_([a-z])")


class Record:
    """An object inside a message."""

    __slots__ = ()
    CAMEL: ClassVar[bool] = False


class Message(Record):
    """A whole message, tagged by its ``TYPE``."""

    __slots__ = ()
    TYPE: ClassVar[str] = ""


def milliseconds(at: datetime) -> str:
    """Return a time as the seeds write it, for example ``2025-11-25T22:52:32.016Z``."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    name: str
    key: str
    read: Callable[[Mapping[str, Any]], Any]
    default: Any


class Codec:
    """Reads and writes the messages of one side of one dialect."""

    def __init__(self, *messages: type[Message]) -> None:
        self._messages = {one.TYPE: (one, _fields(one)) for one in messages}

    def read(self, data: str | bytes) -> Message:
        """Return the message; raises MalformedMessage, and UnknownMessage for a type that is not among ours."""
        value = obj.read(data)
        type_ = obj.take(value, "type", str)
        known = self._messages.get(type_)
        if known is None:
            raise UnknownMessage(type_, tuple(self._messages))
        built: Message = _build(*known, value)
        return built


def encode(message: Message) -> bytes:
    """Return a message as UTF-8 JSON text."""
    return orjson.dumps({"type": message.TYPE, **_to_json(message)})


def _to_json(record: Record) -> dict[str, Any]:
    return {
        field.key: _value_json(value)
        for field in _fields(type(record))
        if (value := getattr(record, field.name)) != field.default or field.default is dataclasses.MISSING
    }


def _value_json(value: Any) -> Any:
    match value:
        case Record():
            return _to_json(value)
        case datetime():
            return milliseconds(value)
        case tuple():
            return [_value_json(item) for item in value]
        case _:
            return value


def _fields(cls: Any) -> tuple[_Field, ...]:
    return _fields_of(cls)


@functools.cache
def _fields_of(cls: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(cls)
    return tuple(_field(cls, one, hints[one.name]) for one in dataclasses.fields(cls))


def _field(cls: type[Record], field: dataclasses.Field[Any], hint: Any) -> _Field:
    key = _UNDERSCORE.sub(lambda match: match[1].upper(), field.name) if cls.CAMEL else field.name
    check = _reader(hint)

    def read(message: Mapping[str, Any]) -> Any:
        if key not in message and field.default is not dataclasses.MISSING:
            return field.default
        if key not in message:
            raise MalformedMessage(f"{key} is missing")
        return check(key, message[key])

    return _Field(field.name, key, read, field.default)


def _build(cls: type[Any], fields: tuple[_Field, ...], value: Mapping[str, Any]) -> Any:
    return cls(**{field.name: field.read(value) for field in fields})


def _reader(hint: Any) -> Callable[[str, Any], Any]:
    """Return what checks a value of this type; a wrong one raises MalformedMessage with its key."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        inner = _reader(next(one for one in args if one is not NoneType))
        return lambda key, value: None if value is None else inner(key, value)
    if origin is tuple:
        item = _reader(args[0])
        return lambda key, value: tuple(item(key, one) for one in obj.take({key: value}, key, list))
    if hint is datetime:
        return lambda key, value: obj.take_time({key: value}, key)
    if isinstance(hint, type) and issubclass(hint, Record):
        return lambda key, value: _build(hint, _fields(hint), obj.take({key: value}, key, dict))
    kinds: tuple[type[Any], ...] = (
        (dict,) if origin is not None else (int, float) if hint is float else (hint,)
    )
    return lambda key, value: value if hint is Any else obj.take({key: value}, key, *kinds)
