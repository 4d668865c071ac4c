"""A channel of a connection: what it was joined with and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from embedded.phoenix import bindings, elixir
from embedded.phoenix.errors import JoinRefused

TOPIC_PREFIX: Final = "realtime:"


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
class JoinConfig:
    """The payload of a phx_join, read leniently as the real server does."""

    changes: bindings.Requested
    access_token: str | None
    presence_enabled: bool
    legacy: bool
    """Joined without `config`: changes come as events named after their type."""


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

    @property
    def name(self) -> str:
        """The topic without its prefix, as `system` messages and policies have it."""
        return self.topic.removeprefix(TOPIC_PREFIX)


def parse_join(topic: str, payload: Any) -> JoinConfig:
    """Return what a join asks for; raises JoinRefused with the real server's reason."""
    if not isinstance(payload, dict):
        printed = elixir.inspect(payload)
        raise JoinRefused(f"UnknownErrorOnChannel: expected params to be a :map, got: `{printed}`")
    if topic == TOPIC_PREFIX:
        raise JoinRefused("TopicNameRequired: You must provide a topic name")
    token = payload.get("access_token", payload.get("user_token"))
    token = token if isinstance(token, str) else None
    if "config" not in payload:
        return JoinConfig(bindings.parse([_legacy_binding(topic)]), token, False, True)
    config = payload["config"]
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise JoinRefused(
            "UnknownErrorOnChannel: the Access module supports only keyword lists (with atom keys), got: "
            '"broadcast"\n\nIf you want to search lists of tuples, use List.keyfind/3'
        )
    presence = config.get("presence")
    for part in (config.get("broadcast"), presence):
        if not (part is None or isinstance(part, dict)):
            raise JoinRefused("UnknownErrorOnChannel: no function clause matching in Access.get/3")
    enabled = presence.get("enabled") if presence else False
    return JoinConfig(
        changes=bindings.parse(config.get("postgres_changes")),
        access_token=token,
        presence_enabled=enabled is True or (isinstance(enabled, str) and enabled.lower() == "true"),
        legacy=False,
    )


def _legacy_binding(topic: str) -> dict[str, str]:
    """Return the binding that a topic of the old API `realtime:schema[:table[:filter]]` means."""
    parts = topic.removeprefix(TOPIC_PREFIX).split(":", 2)
    return dict(zip(("schema", "table", "filter"), parts, strict=False))
