"""The rooms of the Realtime server: who is in them, and how a message reaches them all.

A message's frame is made once for each protocol version and written to every member's outbox; outboxes join what
is written within a tick of the loop, and drop a client that does not read. Everything here runs on one event loop.

Who may enter a private room, and what for, is asked of a `ChannelPolicies`; what was said before of a `History`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from embedded.phoenix.broadcast import Broadcast, Diff, Room, UserBroadcast
from embedded.phoenix.channel import ALLOWED, Permissions
from embedded.phoenix.errors import JoinRefused
from embedded.phoenix.limits import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from embedded.phoenix.channel import Token
    from embedded.phoenix.frames import Vsn
    from embedded.realtime_outbox import Flusher, Outbox

__all__ = [
    "Broadcast",
    "BroadcastHub",
    "ChannelPolicies",
    "Diff",
    "History",
    "Member",
    "NoHistory",
    "Permissions",
    "Replayed",
    "Room",
    "ServiceRoleOnly",
    "replayed_message",
]


class ChannelPolicies(Protocol):
    """The policies on `realtime.messages`, which say who may read from and write to a private topic.

    `token` is verified; `topic` is without `realtime:`. Both are asked once for each join and each new token.
    They raise JoinRefused with the reason to be told if the question cannot be answered. Who may read neither
    broadcasts nor presence may not join.
    """

    async def read(self, token: Token, topic: str) -> Permissions:
        """Return what the token may receive."""
        ...

    async def write(self, token: Token, topic: str) -> Permissions:
        """Return what the token may send."""
        ...


@dataclass(frozen=True, slots=True)
class Replayed:
    """A message of before; `payload` is JSON text, or any bytes if it is not `is_json`."""

    id: str
    event: str
    payload: bytes
    is_json: bool = True


def replayed_message(message: Replayed) -> bytes | UserBroadcast:
    """Return what a message of before is sent in: the payload of a `broadcast` as JSON text, or one of bytes."""
    meta = orjson.dumps({"id": message.id, "replayed": True})
    if not message.is_json:
        return UserBroadcast(message.event, message.payload, is_json=False, meta=meta)
    event = orjson.dumps(message.event)
    return (
        b'{"event":' + event + b',"meta":' + meta + b',"payload":' + message.payload + b',"type":"broadcast"}'
    )


class History(Protocol):
    """What was sent to private topics from the database."""

    async def replay(self, topic: str, since_ms: int, limit: int) -> Sequence[Replayed]:
        """Return at most `limit` (1 to 25) of the newest messages since then, oldest first; may raise JoinRefused.

        `topic` is without `realtime:`, `since_ms` in milliseconds since 1970.
        """
        ...


class NoHistory(History):
    """The history of a database that keeps none."""

    async def replay(self, topic: str, since_ms: int, limit: int) -> Sequence[Replayed]:  # noqa: ARG002  # never any
        """Refuse."""
        raise JoinRefused("UnableToReplayMessages: Realtime was unable to replay messages")


_HELD_BYTES: Final = 8 * 1024 * 1024
"""What is kept for a member while it waits for history; what is more is dropped."""
_UNBOUND: Final = frozenset({"service_role", "supabase_admin", "postgres"})


class ServiceRoleOnly(ChannelPolicies):
    """Policies for a database without `realtime.messages`: only roles that policies do not bind may enter."""

    async def read(self, token: Token, topic: str) -> Permissions:  # noqa: ARG002  # any topic
        """Return everything for service_role, nothing for others."""
        return ALLOWED if token.role in _UNBOUND else Permissions(broadcast=False, presence=False)

    async def write(self, token: Token, topic: str) -> Permissions:
        """Return the same as for reading."""
        return await self.read(token, topic)


@dataclass(eq=False, slots=True)
class Member:
    """One channel of one connection in a room.

    `hears_broadcast` and `hears_presence` are its permissions to read; after a change of them, `enter` again.
    `overrun` is called when more is sent to it than the limit allows; it is to leave then. A member that waits for
    history is `held`: what is sent to it meanwhile is kept until `release`.
    """

    room: Room
    vsn: Vsn
    outbox: Outbox
    overrun: Callable[[], None]
    hears_broadcast: bool = True
    hears_presence: bool = True
    replayed: frozenset[str] = frozenset()
    """Ids of messages that it was sent from history, so that it does not get them again."""
    held: list[tuple[str | None, bytes]] | None = None
    held_bytes: int = 0

    def write(self, message_id: str | None, frame: bytes) -> None:
        """Send the frame of a message, unless it was replayed; hold it if history comes first."""
        if self.held is None:
            if message_id not in self.replayed:
                self.outbox.write(frame)
        elif self.held_bytes + len(frame) <= _HELD_BYTES:
            self.held_bytes += len(frame)
            self.held.append((message_id, frame))

    def release(self) -> None:
        """Send what was held."""
        held, self.held, self.held_bytes = self.held, None, 0
        for message_id, frame in held or ():
            self.write(message_id, frame)


class BroadcastHub:
    """All rooms. `publish` may be called from anywhere on the loop, and does not wait.

    `events` counts messages sent and delivered, for the limit on them.
    """

    def __init__(self, flusher: Flusher, events: Rate | None = None) -> None:
        self._flusher = flusher
        self._rooms: dict[Room, dict[Member, None]] = {}
        self._audiences: dict[Room, dict[bool, dict[Vsn, _Audience]]] = {}
        self.events: Final = Rate(None) if events is None else events
        self.messages = 0
        self.frames = 0

    def __len__(self) -> int:
        """Return how many rooms have somebody in them."""
        return len(self._rooms)

    def enter(self, member: Member) -> None:
        """Let the member have what is sent to its room from now on."""
        self._rooms.setdefault(member.room, {})[member] = None
        self._audiences.pop(member.room, None)

    def leave(self, member: Member) -> None:
        """Let the member have nothing more; it may have left already."""
        members = self._rooms.get(member.room)
        if members is not None:
            members.pop(member, None)
            self._audiences.pop(member.room, None)
            if not members:
                del self._rooms[member.room]

    def publish(
        self,
        room: Room,
        message: Broadcast | Diff,
        *,
        exclude: Member | None = None,
        message_id: str | None = None,
    ) -> int:
        """Send the message to everybody in the room who may have it, and return to how many.

        `message_id` is the id of a row of `realtime.messages`; who was replayed it does not get it again.
        """
        audience = self._audience(room, presence=isinstance(message, Diff))
        self.messages += 1
        now = time.monotonic()
        if self.events.exceeded(now):
            self._overrun(audience, exclude)
            return 0
        sent = 0
        for vsn, group in audience.items():
            frame = message.frame(vsn, room)
            if frame is None:
                continue
            outboxes = group.outboxes_without(exclude)
            self._flusher.send(outboxes, frame)
            sent += len(outboxes)
            for member in group.with_history:
                if member is not exclude:
                    member.write(message_id, frame)
                    sent += 1
        self.frames += sent
        self.events.add(sent + 1, now)
        return sent

    def _audience(self, room: Room, *, presence: bool) -> dict[Vsn, _Audience]:
        """Return who gets such messages; sorted once for as long as nobody comes or goes."""
        kept = self._audiences.get(room)
        if kept is None:
            members = self._rooms.get(room)
            if members is None:
                return {}
            kept = self._audiences[room] = {
                True: _by_version(m for m in members if m.hears_presence),
                False: _by_version(m for m in members if m.hears_broadcast),
            }
        return kept[presence]

    def _overrun(self, audience: dict[Vsn, _Audience], exclude: Member | None) -> None:
        for group in audience.values():
            for member in (*group.members, *group.with_history):
                if member is not exclude:
                    member.overrun()


@dataclass(frozen=True, slots=True)
class _Audience:
    """Who gets the same frame, for as long as nobody comes or goes.

    `outboxes` are those of `members`, in the same order. Whoever waits for history or has had some is asked about each
    message; a member becomes such a one only by entering, and that sorts anew.
    """

    members: tuple[Member, ...]
    outboxes: tuple[Outbox, ...]
    with_history: tuple[Member, ...]

    def outboxes_without(self, exclude: Member | None) -> tuple[Outbox, ...]:
        if exclude is None or exclude not in self.members:
            return self.outboxes
        place = self.members.index(exclude)
        return self.outboxes[:place] + self.outboxes[place + 1 :]


def _by_version(members: Iterable[Member]) -> dict[Vsn, _Audience]:
    found: dict[Vsn, list[Member]] = {}
    for member in members:
        found.setdefault(member.vsn, []).append(member)
    return {vsn: _sorted_by_history(listed) for vsn, listed in found.items()}


def _sorted_by_history(members: Iterable[Member]) -> _Audience:
    plain: list[Member] = []
    special: list[Member] = []
    for member in members:
        (plain if member.held is None and not member.replayed else special).append(member)
    return _Audience(tuple(plain), tuple(member.outbox for member in plain), tuple(special))
