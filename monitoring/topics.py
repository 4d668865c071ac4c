"""Topics: what clients ask for. Each selects whole streams, so that a hole shows to every subscriber."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from monitoring.errors import InvalidTopic
from monitoring.events import StreamId, category_of, device_of, metric_type_of


class Field(StrEnum):
    """What a topic looks at."""

    DEVICE = "devices"
    CATEGORY = "categories"
    METRIC_TYPE = "metrics"
    GLOBAL = "global"


_READ = {
    Field.DEVICE: device_of,
    Field.CATEGORY: category_of,
    Field.METRIC_TYPE: metric_type_of,
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One predicate on (device, category, metric type). ``value`` is None when every value matches."""

    field: Field
    value: str | None = None

    def matches(self, stream: StreamId) -> bool:
        """Tell whether the stream's events belong to this topic."""
        return self.value is None or _READ[self.field](stream) == self.value

    def __str__(self) -> str:
        return "global" if self.field is Field.GLOBAL else f"{self.field}.{self.value or '*'}"


GLOBAL = Topic(Field.GLOBAL)


def parse_topic(text: str) -> Topic:
    """Read ``global``, ``devices.NAME``, ``categories.NAME`` or ``metrics.NAME``; ``*`` is any name."""
    head, dot, value = text.strip().partition(".")
    if head == Field.GLOBAL and not dot:
        return GLOBAL
    if head not in set(Field) - {Field.GLOBAL}:
        raise InvalidTopic(text, f"{head!r} is not a kind of topic")
    if not value:
        raise InvalidTopic(text, "the name after the dot is missing")
    return Topic(Field(head), None if value == "*" else value)


def parse_topics(texts: Iterable[str]) -> frozenset[Topic]:
    """Read several topics; none at all means everything."""
    return frozenset(parse_topic(text) for text in texts) or frozenset({GLOBAL})


def selects(topics: Iterable[Topic], stream: StreamId) -> bool:
    """Tell whether any of the topics selects the stream."""
    return any(topic.matches(stream) for topic in topics)


class Selection:
    """The streams that topics select, none meaning everything; ``stream in selection`` remembers its answers.

    For whoever asks with every event: of a hundred topics the look costs more than all else that is done with it.
    """

    _MOST = 10_000  # answers kept; a peer that invents streams cannot grow us

    def __init__(self, topics: Iterable[Topic]) -> None:
        self.topics = frozenset(topics) or frozenset({GLOBAL})
        self._answers: dict[StreamId, bool] = {}

    def __contains__(self, stream: StreamId) -> bool:
        answer = self._answers.get(stream)
        if answer is None:
            if len(self._answers) >= self._MOST:
                self._answers.clear()
            answer = self._answers[stream] = selects(self.topics, stream)
        return answer
