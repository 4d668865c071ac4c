"""The real server's habits as switches, for testing what depends on them; all are off unless asked for.

They are what makes programs that work here fail there: a client that reads a table before it subscribes, one that
takes silence for peace, one that floods. Measured on Supabase Realtime v2.129.8; delays in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from embedded.errors import EmbeddedError
from embedded.phoenix.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class UnknownHabit(EmbeddedError):  # noqa: N818  # named for what is wrong, as all of them are
    """A habit was asked for that there is not."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no habit {name!r}; there are {', '.join(sorted(HABITS))}.")
        self.name = name


@dataclass(frozen=True, slots=True)
class Habits:
    """How the server behaves where the real one is worse; the defaults are ours.

    `poll_seconds`: the feed is asked for changes, and after an answer without any not again for this long, instead
    of being sent them. `live_after_seconds`: a join with postgres_changes is answered at once and its subscription
    live so much later when no other is live; what is committed in between is lost to it. `connect_penalty_seconds` and
    `join_penalty_seconds`: how long a refused handshake and a refused join wait for their answer; a join keeps
    everything else on its connection waiting, too. `lossy_fault`: after the database was away, existing subscriptions
    stay, go on with what is committed from then on, and have lost the rest. `silent_after_fault`: they get nothing
    more. Nobody is told of either.
    """

    poll_seconds: float | None = None
    live_after_seconds: float | None = None
    connect_penalty_seconds: float = 0.0
    join_penalty_seconds: float = 0.0
    silent_after_fault: bool = False
    lossy_fault: bool = False
    limits: Limits = field(default_factory=Limits)


NONE: Final = Habits()

HOSTED_LIMITS: Final = Limits(
    clients=200,
    channels_per_client=100,
    joins_per_second=100,
    events_per_second=100,
    payload_bytes=256_500,
)
"""The quotas of the smallest hosted project. All but the size of a payload (256 kB and 500 bytes, as the real server
counts it) are also those that the recordings were made with."""

HABITS: Final[Mapping[str, str]] = {
    "poll-100ms": "ask the database for changes every 100 ms",
    "poll-500ms": "ask the database for changes, and pause 500 ms when there are none",
    "early-subscribed": "answer joins before their feed is live, and lose what is committed in between; "
    "long before when nobody else is subscribed",
    "connect-penalty": "answer refused handshakes after 2 s",
    "join-penalty": "answer refused joins after 5 s, the whole connection waiting",
    "lossy-fault": "lose what is committed until the feed is back after the database was away, and tell nobody",
    "silent-fault": "deliver nothing to existing subscriptions after the database was away",
    "hosted-limits": "200 clients, 100 channels each, 100 joins, 100 messages and 100 changes a second, payloads of 256 kB",
}
"""The names of the switches, and what each does."""


def habits(names: Iterable[str]) -> Habits:
    """Return the habits with these names together; raises UnknownHabit."""
    result = NONE
    for name in names:
        match name:
            case "poll-100ms":
                result = replace(result, poll_seconds=0.1)
            case "poll-500ms":
                result = replace(result, poll_seconds=0.5)
            case "early-subscribed":
                result = replace(result, live_after_seconds=1.6)
            case "connect-penalty":
                result = replace(result, connect_penalty_seconds=2.0)
            case "join-penalty":
                result = replace(result, join_penalty_seconds=5.0)
            case "lossy-fault":
                result = replace(result, lossy_fault=True)
            case "silent-fault":
                result = replace(result, silent_after_fault=True)
            case "hosted-limits":
                result = replace(result, limits=HOSTED_LIMITS)
            case _:
                raise UnknownHabit(name)
    return result
