"""What one subscription makes of the legacy server's messages: pure, no sockets.

Over every connection it asks for what comes after its cursor, takes the answer as authoritative history, and follows.
Whatever the server sends or leaves out, the sequencer keeps the promise: each event once and in order, gaps named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from adapters.legacy_dialect import Misbehaved, NotUnderstood
from legacy_ws.protocol import dashboard
from monitoring.coverage import Coverage
from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Item
from monitoring.topics import Selection, Topic


class LegacyFeed:
    """The state of one subscription, over as many connections as it takes.

    Feed it each message of the server with ``receive``; send ``request`` on every new connection, and again whenever
    ``wants_history``.
    """

    def __init__(
        self,
        topics: Collection[Topic],
        since: Cursor | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._selection = Selection(topics)
        self._clock = clock
        self._sequencer = (
            Sequencer(since) if since is not None else None
        )  # None until the first answer names the heads
        self._answered = False
        self._asked = False
        self._fetching_hole = False
        self._coverage: Coverage | None = None  # from the first answer of a connection on
        self._pending: dict[StreamId, Position] = {}  # history on its way, up to these heads
        self.waiting: str = ""
        """Why the server has not answered yet, in its words."""
        self.unreadable = 0
        """Event messages without a readable event of ours inside."""

    @property
    def cursor(self) -> Cursor | None:
        """What has been delivered; None while that is "from now on" and the server has not said where now is."""
        return self._sequencer.cursor if self._sequencer else None

    @property
    def duplicates(self) -> int:
        """Events that came again and were dropped."""
        return self._sequencer.duplicates if self._sequencer else 0

    @property
    def answered(self) -> bool:
        """Whether the server has answered the subscription of this connection."""
        return self._answered

    @property
    def catching_up(self) -> bool:
        """Whether an answer, or history that the server announced, has still to come."""
        return (self._asked and not self.waiting) or bool(self._pending)

    @property
    def wants_history(self) -> bool:
        """Whether a hole was seen that has to be asked for."""
        return (
            self._answered
            and not self._asked
            and not self._pending
            and bool(self._sequencer and self._sequencer.waiting)
        )

    @property
    def behind(self) -> bool:
        """Whether the server, as far as it has said, does not know all that we have: it is worth asking again."""
        return self._answered and not self._asked and not self._pending and not self.live

    @property
    def live(self) -> bool:
        """Whether the server has answered, nothing is missing, and it knows what we have or was waited for long enough."""
        if (
            not self._answered
            or self._asked
            or self._pending
            or self._coverage is None
            or self._sequencer is None
            or self._sequencer.waiting
        ):
            return False
        return self._coverage.complete(self._clock())

    def disconnected(self) -> None:
        """Forget what only concerned the last connection."""
        self._answered = self._asked = self._fetching_hole = False
        self._coverage = None
        self._pending = {}
        self.waiting = ""

    def request(self) -> dashboard.Subscribe:
        """Return the request for everything after what was delivered."""
        self._fetching_hole = bool(self._sequencer and self._sequencer.holes)
        self._asked = True
        return dashboard.Subscribe(self._selection.topics, self.cursor)

    def receive(self, message: dashboard.ServerMessage) -> list[Item]:
        """Take a message; return what can be delivered now.

        Raises MalformedMessage for an unreadable event, Misbehaved, or NotUnderstood when the server does not know
        ``subscribe``.
        """
        match message:
            case dashboard.EventMessage():
                items = self._event(message)
            case dashboard.Subscribed():
                items = self._subscribed(message)
            case dashboard.Waiting(reason):
                self.waiting = reason
                return []
            case dashboard.ErrorMessage(error):
                if self._asked:
                    raise NotUnderstood(f"the server refused the subscription: {error}")
                return []
            case _:
                return []
        if self._fetching_hole and not self._asked and not self._pending:
            self._fetching_hole = False
            if self._sequencer and self._sequencer.holes:
                raise Misbehaved("the server sent events after a hole, and then denied them")
        return items

    def _subscribed(self, answer: dashboard.Subscribed) -> list[Item]:
        self._answered, self._asked, self.waiting = True, False, ""
        if self._sequencer is None:
            self._sequencer = Sequencer(answer.heads)
        self._pending = {
            name: head
            for name, head in answer.heads.items()
            if name in self._selection and head > self._sequencer.position(name)
        }
        if self._coverage is None:
            self._coverage = Coverage()
            self._coverage.begin(self._sequencer.cursor, answer.heads, self._selection.topics, self._clock())
        else:
            for name, at in answer.heads.items():
                self._coverage.shown(name, at)
        items: list[Item] = []
        for gap in answer.gaps:
            head = self._pending.get(gap.stream)
            if (
                head is not None and (gap.epoch, gap.to_seq) == head
            ):  # nothing up to the head is left to be sent
                del self._pending[gap.stream]
                items += self._sequencer.fill(gap.stream, [], upto=head)
        return items

    def _event(self, message: dashboard.EventMessage) -> list[Item]:
        event = message.event()
        if event is None:
            self.unreadable += 1
            return []
        if not self._answered or self._sequencer is None or event.stream not in self._selection:
            return []  # sent before our subscription took effect; its answer covers it
        if self._coverage is not None:
            self._coverage.shown(event.stream, event.position)
        return (
            self._history(self._sequencer, event)
            if event.stream in self._pending
            else [*self._sequencer.offer(event)]
        )

    def _history(self, sequencer: Sequencer, event: Event) -> list[Item]:
        """Take an event of a replay: the server leaves out only what it does not have."""
        head = self._pending[event.stream]
        if event.position < head:
            return [*sequencer.fill(event.stream, [event])]
        del self._pending[event.stream]
        return [*sequencer.fill(event.stream, [event], upto=head)]
