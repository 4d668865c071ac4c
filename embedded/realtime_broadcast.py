"""The rooms of the Realtime server: who is in them, and how a message reaches them all.

A message's frame is made once for each protocol version and written to every member's outbox; outboxes join what
is written within a tick of the loop, and drop a client that does not read. Everything here runs on one event loop.

Who may enter a private room, and what for, is asked of a `ChannelPolicies`; what was said before of a `History`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from embedded.phoenix.broadcast import Broadcast, Diff, Room
from embedded.phoenix.channel import ALLOWED, Permissions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from embedded.phoenix.channel import Token
    from embedded.phoenix.frames import Vsn
    from embedded.realtime_outbox import Outbox

__all__ = [
    "Broadcast",
    "BroadcastHub",
    "ChannelPolicies",
    "Diff",
    "History",
    "Member",
    "Permissions",
    "Replayed",
    "Room",
    "ServiceRoleOnly",
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
    """A message of before; `payload` is JSON text."""

    id: str
    event: str
    payload: bytes


class History(Protocol):
    """What was sent to private topics from the database."""

    async def replay(self, topic: str, since_ms: int, limit: int) -> Sequence[Replayed]:
        """Return at most `limit` (1 to 25) of the newest messages since then, oldest first; may raise JoinRefused.

        `topic` is without `realtime:`, `since_ms` in milliseconds since 1970.
        """
        ...


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

    `hears_broadcast` and `hears_presence` are its permissions to read. `replayed` are ids of messages that it was
    sent from history, so that it does not get them again. `overrun` is called, at most once, when more is sent to
    it than the limit allows.
    """

    room: Room
    vsn: Vsn
    outbox: Outbox
    overrun: Callable[[], None]
    hears_broadcast: bool = True
    hears_presence: bool = True
    replayed: frozenset[str] = field(default=frozenset())


class BroadcastHub:
    """All rooms. `publish` may be called from anywhere on the loop, and does not wait."""

    def __init__(self) -> None:
        self._rooms: dict[Room, dict[Member, None]] = {}
        self.messages = 0
        self.frames = 0

    def enter(self, member: Member) -> None:
        """Let the member have what is sent to its room from now on."""
        self._rooms.setdefault(member.room, {})[member] = None

    def leave(self, member: Member) -> None:
        """Let the member have nothing more; it may have left already."""
        members = self._rooms.get(member.room)
        if members is not None:
            members.pop(member, None)
            if not members:
                del self._rooms[member.room]

    def members(self, room: Room) -> Iterable[Member]:
        """Return who is in the room now."""
        return tuple(self._rooms.get(room, ()))

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
        members = self._rooms.get(room)
        if members is None:
            return 0
        self.messages += 1
        presence = isinstance(message, Diff)
        made: dict[Vsn, bytes | None] = {}
        sent = 0
        for member in members:
            if member is exclude or not (member.hears_presence if presence else member.hears_broadcast):
                continue
            if message_id is not None and message_id in member.replayed:
                continue
            vsn = member.vsn
            if vsn not in made:
                made[vsn] = message.frame(vsn, room)
            frame = made[vsn]
            if frame is not None:
                member.outbox.write(frame)
                sent += 1
        self.frames += sent
        return sent
