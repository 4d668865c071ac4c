"""What a session wants done, in this order; its shell does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedded.phoenix.broadcast import Broadcast
    from embedded.phoenix.channel import Channel


@dataclass(frozen=True, slots=True)
class Send:
    """Write this text frame."""

    text: bytes


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Write this WebSocket frame, which is complete."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Authorize:
    """Find out what the channel's token may do in its private room, and what history it is to get."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class Enter:
    """Let the channel have what is sent to its room from now on, with the rights in `channel.access`."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class SendPresence:
    """Send the channel the state of presence in its room."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class AwaitReplication:
    """Call `replicating()` once messages from the database flow."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class Publish:
    """Send the message to the channel's room, to the channel itself only if it wants that."""

    channel: Channel
    message: Broadcast


@dataclass(frozen=True, slots=True)
class Track:
    """Make this JSON object the channel's entry in its room's presence."""

    channel: Channel
    payload: bytes


@dataclass(frozen=True, slots=True)
class Untrack:
    """Take the channel's entry out of its room's presence."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Make the channel's bindings live for its token, in place of an earlier subscription of the channel."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The channel is closed: end its subscription or the attempt at one, its presence, and its place in the room."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class JoinFailed:
    """A join is about to be refused: the real server lets the whole connection wait for that."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection with this code, after what was sent."""

    code: int


Action = (
    Send
    | SendFrame
    | Authorize
    | Enter
    | SendPresence
    | AwaitReplication
    | Publish
    | Track
    | Untrack
    | Subscribe
    | Unsubscribe
    | JoinFailed
    | Disconnect
)
