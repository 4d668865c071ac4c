"""Presence in the rooms of the Realtime server: keeps each room's state and tells its members what changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedded.phoenix.presence import EMPTY_STATE, Presences

if TYPE_CHECKING:
    from embedded.phoenix.broadcast import Room
    from embedded.realtime_broadcast import BroadcastHub, Member


class PresenceRooms:
    """The presence of all rooms of a hub."""

    def __init__(self, hub: BroadcastHub) -> None:
        self._hub = hub
        self._rooms: dict[Room, Presences] = {}

    def __len__(self) -> int:
        """Return how many channels are present somewhere."""
        return sum(map(len, self._rooms.values()))

    def track(self, member: Member, key: str, payload: bytes) -> None:
        """Make or change the member's entry and tell everybody, if there is something to tell."""
        diff = self._rooms.setdefault(member.room, Presences()).track(member, key, payload)
        if diff is not None:
            self._hub.publish(member.room, diff)

    def untrack(self, member: Member) -> None:
        """Take the member's entry away and tell everybody who is still there."""
        presences = self._rooms.get(member.room)
        if presences is None:
            return
        diff = presences.untrack(member)
        if not presences:
            del self._rooms[member.room]
        if diff is not None:
            self._hub.publish(member.room, diff)

    def state(self, room: Room) -> bytes:
        """Return who is present, as the JSON object of a `presence_state`."""
        presences = self._rooms.get(room)
        return EMPTY_STATE if presences is None else presences.state()
