"""What requests ask for, read strictly: topics, cursors, client ids. Raises Problem with the place of each mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monitoring.cursor import Cursor
from monitoring.errors import InvalidCursor, InvalidEvent, InvalidTopic
from monitoring.events import stream_id
from monitoring.topics import parse_topic
from services.problems import Kind, Mistake, Problem, invalid

MAX_TOPICS = 200
MAX_STREAMS = 10_000
_LARGEST = 2**63 - 1  # PostgreSQL's bigint


def topics_of(texts: Sequence[str], at: str) -> list[str]:
    """Return topics as the database's functions take them; none at all means everything.

    ``at`` says where they stand: ``query topic``, or a JSON pointer to the list.
    """
    if len(texts) > MAX_TOPICS:
        raise invalid(at, f"{len(texts)} topics are more than {MAX_TOPICS}; ask for global and choose")
    mistakes = []
    found = []
    for number, text in enumerate(texts):
        try:
            topic = parse_topic(text)
            if topic.value is not None:
                stream_id(topic.value, "any")  # a name that no stream can have would be waited for in vain
        except InvalidTopic as error:
            mistakes.append(Mistake(_member(at, number), str(error)))
        except InvalidEvent as error:
            mistakes.append(Mistake(_member(at, number), error.reason.replace("device", "name", 1)))
        else:
            found.append(str(topic))
    _refuse(mistakes)
    return sorted(set(found)) or ["global"]


def cursor_of(value: Mapping[str, object], at: str) -> Cursor:
    """Return a cursor whose streams and positions the database can hold."""
    if len(value) > MAX_STREAMS:
        raise invalid(at, f"{len(value)} streams are more than {MAX_STREAMS}")
    mistakes = []
    for stream, pair in value.items():
        place = f"{at}/{stream.replace('~', '~0').replace('/', '~1')}"
        try:
            _check(stream, pair)
        except (InvalidCursor, InvalidEvent) as error:
            mistakes.append(Mistake(place, getattr(error, "reason", str(error))))
    _refuse(mistakes)
    return Cursor.from_json(value)


def _check(stream: str, pair: object) -> None:
    """Raise InvalidEvent for a name that no stream has, InvalidCursor for a position that no event has."""
    device, separator, category = stream.partition("/")
    if not separator:
        raise InvalidCursor(f"{stream!r} is not device/category")
    name = stream_id(device, category)
    if max(Cursor.from_json({name: pair})[name]) > _LARGEST:
        raise InvalidCursor(f"position of stream {stream!r} is beyond any event, got {pair!r}")


def _member(at: str, number: int) -> str:
    return f"{at}/{number}" if at.startswith("/") else f"{at} ({number + 1})"


def _refuse(mistakes: Sequence[Mistake]) -> None:
    if mistakes:
        shown = "; ".join(f"{mistake.at}: {mistake.detail}" for mistake in mistakes[:3])
        more = f"; and {len(mistakes) - 3} more" if len(mistakes) > 3 else ""  # noqa: PLR2004 - those shown
        raise Problem(Kind.INVALID_REQUEST, shown + more, mistakes=mistakes[:20])
