"""JSON objects as every dialect reads and writes them: typed, tagged by ``type``, with errors worth sending back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

from legacy_ws.errors import MalformedMessage, shown
from monitoring.cursor import Cursor
from monitoring.errors import InvalidCursor, InvalidEvent, InvalidTopic
from monitoring.events import Event, from_json
from monitoring.service import Gap
from monitoring.topics import Topic, parse_topics

T = TypeVar("T")

_REASON_LIMIT = 300
_MAX_TOPICS = 1000
_FIRST_YEAR = 1000  # strftime writes earlier years without leading zeros, which cannot be read again


def read(data: str | bytes) -> dict[str, Any]:
    """Return the object of a message; raises MalformedMessage."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MalformedMessage(f"not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(value, dict):
        raise MalformedMessage(f"a message is a JSON object, got {type(value).__name__}")
    return value


def take(message: Mapping[str, Any], key: str, *kinds: type[T]) -> T:
    """Return a value of one of the kinds; raises MalformedMessage when it is missing or of another kind."""
    if key not in message:
        raise MalformedMessage(f"{key} is missing")
    value = message[key]
    # bool is an int to Python, but never where a dialect wants a number.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise MalformedMessage(f"{key} must be {wanted}, got {shown(value)}")
    return value


def take_time(message: Mapping[str, Any], key: str) -> datetime:
    """Return an aware time in UTC; raises MalformedMessage."""
    text = take(message, key, str)
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedMessage(f"{key} must be an RFC 3339 time, got {shown(text)}") from None


def take_event(value: object) -> Event:
    """Return an event in its wire form; raises MalformedMessage."""
    try:
        event = from_json(value)
    except InvalidEvent as error:
        raise MalformedMessage(str(error)[:_REASON_LIMIT]) from error
    if event.occurred_at.year < _FIRST_YEAR:
        raise MalformedMessage(f"not an event: occurred_at is in the year {event.occurred_at.year}")
    return event


def take_events(message: Mapping[str, Any], key: str) -> tuple[Event, ...]:
    """Return a list of events; raises MalformedMessage."""
    return tuple(take_event(value) for value in take(message, key, list))


def take_cursor(message: Mapping[str, Any], key: str) -> Cursor:
    """Return a cursor; raises MalformedMessage."""
    try:
        return Cursor.from_json(message.get(key))
    except InvalidCursor as error:
        raise MalformedMessage(f"{key}: {error}"[:_REASON_LIMIT]) from error


def take_topics(message: Mapping[str, Any]) -> frozenset[Topic]:
    """Return the topics of a request, everything when it names none; raises MalformedMessage."""
    texts = message.get("topics")
    if texts is None:
        texts = []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise MalformedMessage(f"topics must be a list of texts, got {shown(texts)}")
    return topics_named(texts)


def topics_named(texts: Sequence[str]) -> frozenset[Topic]:
    """Return the topics of these names, everything when there are none; raises MalformedMessage."""
    if len(texts) > _MAX_TOPICS:
        raise MalformedMessage(f"at most {_MAX_TOPICS} topics, got {len(texts)}")
    try:
        return parse_topics(texts)
    except InvalidTopic as error:
        raise MalformedMessage(str(error)[:_REASON_LIMIT]) from error


def topics_json(topics: Iterable[Topic]) -> list[str]:
    """Return topics as a request names them, in a stable order."""
    return sorted(str(topic) for topic in topics)


def gap_json(gap: Gap) -> dict[str, Any]:
    """Return a gap's form on the wire."""
    return {"stream": gap.stream, "epoch": gap.epoch, "from_seq": gap.from_seq, "to_seq": gap.to_seq}
