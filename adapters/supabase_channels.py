"""Which channels and filters bring the streams of some topics: as narrow as the limits allow, never narrower.

Pure. What is bound coarser than it was asked for is filtered by the receiver.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from monitoring.topics import Field, Topic

BEAT_CHANNEL = "beat"
FEED_CHANNEL = "feed"
DEVICE_CHANNEL = "device:{}"

IN_VALUES = 100
"""Values that Realtime takes in one ``in`` filter."""
MOST_FILTERS = 10
"""Filters a channel; every change is tested against each of every client's, so beyond it everything is bound."""
MOST_DEVICE_CHANNELS = 20
"""Channels a client joins instead of the one with everything: hosted projects allow 100 a connection, and count the
joins of all clients, 100 a second at least."""

_COLUMNS = {Field.DEVICE: "device", Field.CATEGORY: "category", Field.METRIC_TYPE: "metric_type"}


def filters(topics: Collection[Topic]) -> Sequence[str | None]:
    """Return the filters on the feed's rows for the topics; None alone when all rows are to be bound."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for topic in topics:
        if topic.value is None:
            return [None]
        values[_COLUMNS[topic.field]].append(_quoted(topic.value))
    bound = []
    for column, listed in sorted(values.items()):
        ordered = sorted(listed)
        for start in range(0, len(ordered), IN_VALUES):
            part = ordered[start : start + IN_VALUES]
            bound.append(f"{column}=eq.{part[0]}" if len(part) == 1 else f"{column}=in.({','.join(part)})")
    return bound if len(bound) <= MOST_FILTERS else [None]


def channels(topics: Collection[Topic]) -> Sequence[str]:
    """Return the channels on which the topics' events are broadcast; the heartbeat's is not among them."""
    devices = [topic.value for topic in topics if topic.field is Field.DEVICE and topic.value is not None]
    if len(devices) < len(topics) or len(devices) > MOST_DEVICE_CHANNELS:
        return [FEED_CHANNEL]
    return [DEVICE_CHANNEL.format(device) for device in sorted(devices)]


def _quoted(value: str) -> str:
    """Return the value as Realtime's filter syntax wants it: quoted when it holds a separator."""
    if any(character in value for character in ',()"\\ '):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value
