"""A channel of a connection: what it was joined with and how far it is."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from embedded.phoenix import bindings, elixir
from embedded.phoenix.broadcast import TOPIC_PREFIX, Room
from embedded.phoenix.errors import JoinRefused

if TYPE_CHECKING:
    from embedded.phoenix.broadcast import UserBroadcast
    from embedded.phoenix.frames import Message
    from embedded.phoenix.limits import Recent

__all__ = [
    "ALLOWED",
    "OPEN",
    "TOPIC_PREFIX",
    "Access",
    "Channel",
    "JoinConfig",
    "Permissions",
    "State",
    "Token",
    "parse_join",
    "replay_wanted",
]


_REPLAY_LIMIT: Final = 25


class State(Enum):
    """Where a channel is in its life; a closed channel is no longer known to its session."""

    JOINING = auto()
    """The join reply is held until its subscription is live."""
    JOINED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token: `raw` as it was sent, `claims` as JSON text, `expires_at` in seconds since 1970."""

    raw: str
    role: str
    claims: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a token may do in a room, in one direction: reading, or writing."""

    broadcast: bool
    presence: bool

    @property
    def nothing(self) -> bool:
        """Whether neither is allowed."""
        return not (self.broadcast or self.presence)


@dataclass(frozen=True, slots=True)
class Access:
    """What a token may do in a room."""

    read: Permissions
    write: Permissions


ALLOWED: Final = Permissions(broadcast=True, presence=True)
OPEN: Final = Access(ALLOWED, ALLOWED)


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """The payload of a phx_join, read leniently as the real server does."""

    changes: bindings.Requested
    access_token: str | None
    presence_enabled: bool
    legacy: bool
    """Joined without `config`: changes come as events named after their type."""
    presence_key: str
    """Made up where the client gave none."""
    private: bool = False
    hears_itself: bool = False
    acknowledges: bool = False
    """Broadcasts of the client are answered."""
    replay: Any = None
    """What is wanted of history, as it was sent; None: nothing."""
    replication_ready: bool = False
    """The client wants to be told when messages from the database flow."""


@dataclass(eq=False, slots=True)
class Channel:
    """One joined topic; the session owns it and alone changes it."""

    topic: str
    join_ref: Any
    ref: Any
    config: JoinConfig
    token: Token
    state: State = State.JOINING
    replaced: Channel | None = None
    """The channel of the same topic that this one took over from; its phx_close follows our join reply."""
    subscribing: bool = field(default=False)
    """The shell was asked for a subscription and has not answered."""
    access: Access | None = None
    """What the token may do in the room; None until it is known, which is when the room may be entered."""
    presence: Recent | None = None
    """How often the client spoke of its presence."""
    waiting: list[tuple[Message, float]] = field(default_factory=list)
    """What the client sent before it was joined, and when; dealt with then, as the real server does."""
    waiting_bytes: int = 0
    history: tuple[bytes | UserBroadcast, ...] = ()
    """Payloads of messages of before, which follow the join reply."""

    @property
    def name(self) -> str:
        """The topic without its prefix, as `system` messages and policies have it."""
        return self.topic.removeprefix(TOPIC_PREFIX)

    @property
    def room(self) -> Room:
        """The room that the channel is in."""
        return Room(self.name, self.config.private)


def parse_join(topic: str, payload: Any) -> JoinConfig:
    """Return what a join asks for; raises JoinRefused with the real server's reason."""
    if not isinstance(payload, dict):
        printed = _binary(payload) if isinstance(payload, bytes) else elixir.inspect(payload)
        raise JoinRefused(f"UnknownErrorOnChannel: expected params to be a :map, got: `{printed}`")
    if topic == TOPIC_PREFIX:
        raise JoinRefused("TopicNameRequired: You must provide a topic name")
    token = payload.get("access_token", payload.get("user_token"))
    token = token if isinstance(token, str) else None
    if "config" not in payload:
        return JoinConfig(bindings.parse([_legacy_binding(topic)]), token, False, True, _made_up_key())
    config = payload["config"]
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise JoinRefused(
            "UnknownErrorOnChannel: the Access module supports only keyword lists (with atom keys), got: "
            '"broadcast"\n\nIf you want to search lists of tuples, use List.keyfind/3'
        )
    broadcast, presence = config.get("broadcast"), config.get("presence")
    for part in (broadcast, presence):
        if not (part is None or isinstance(part, dict)):
            raise JoinRefused("UnknownErrorOnChannel: no function clause matching in Access.get/3")
    broadcast, presence = broadcast or {}, presence or {}
    key = presence.get("key")
    private, replay = _flag(config.get("private")), broadcast.get("replay")
    if replay is not None and not private:
        raise JoinRefused("UnableToReplayMessages: Replay is not allowed for public channels")
    return JoinConfig(
        changes=bindings.parse(config.get("postgres_changes")),
        access_token=token,
        presence_enabled=_flag(presence.get("enabled")),
        legacy=False,
        presence_key=key if isinstance(key, str) and key else _made_up_key(),
        private=private,
        hears_itself=_flag(broadcast.get("self")),
        acknowledges=_flag(broadcast.get("ack")),
        replay=replay,
        replication_ready=_flag(broadcast.get("replication_ready")),
    )


def replay_wanted(replay: Any) -> tuple[int, int]:
    """Return since when (milliseconds since 1970) and how many messages are wanted; raises JoinRefused."""
    if isinstance(replay, dict):
        since, limit = replay.get("since"), replay.get("limit")
        if isinstance(since, int) and isinstance(limit, int | None):
            return since, _REPLAY_LIMIT if limit is None else min(max(1, limit), _REPLAY_LIMIT)
    raise JoinRefused("UnableToReplayMessages: Replay params are not valid")


def _flag(value: Any) -> bool:
    """Return a boolean that may be text; anything else is false."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _made_up_key() -> str:
    return str(uuid.uuid1())


def _binary(data: bytes) -> str:
    try:
        return f"{{:binary, {elixir.inspect(data.decode())}}}"
    except UnicodeDecodeError:
        return f"{{:binary, <<{', '.join(map(str, data))}>>}}"


def _legacy_binding(topic: str) -> dict[str, str]:
    """Return the binding that a topic of the old API `realtime:schema[:table[:filter]]` means."""
    parts = topic.removeprefix(TOPIC_PREFIX).split(":", 2)
    return dict(zip(("schema", "table", "filter"), parts, strict=False))
