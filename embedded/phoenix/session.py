"""The protocol state of one connection: frames in, actions out.

The shell feeds received text and the time, and does the actions in order. Two of them it answers later:
`Subscribe` with `subscribed()` or `refused()`. The join reply of a channel with postgres_changes bindings is
held until then, so that nothing committed after the reply is lost (the real server replies at once and loses
what is committed before its feed is ready). Events of other channels go on meanwhile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from embedded.phoenix import frames
from embedded.phoenix.channel import TOPIC_PREFIX, Channel, JoinConfig, State, Token, parse_join
from embedded.phoenix.errors import JoinRefused, TokenRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedded.phoenix.frames import Message, Vsn

MAX_CHANNELS: Final = 100
_CHANGES: Final = "postgres_changes"


@dataclass(frozen=True, slots=True)
class Send:
    """Write this text frame."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Make the channel's bindings live for its token, in place of an earlier subscription of the channel."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """End the channel's subscription, or the attempt at one; it gets no more changes."""

    channel: Channel


Action = Send | Subscribe | Unsubscribe


class Session:
    """One connection after its handshake. `verify` returns the token in a text or raises TokenRefused."""

    def __init__(self, vsn: Vsn, token: Token, verify: Callable[[str, float], Token]) -> None:
        self.vsn: Final = vsn
        self.channels: Final[dict[str, Channel]] = {}
        self._token = token
        self._verify = verify

    def receive(self, data: str | bytes, now: float) -> list[Action]:  # noqa: PLR0911  # one per rule
        """Return what a text frame leads to; `now` is in seconds since 1970."""
        message = frames.decode(self.vsn, data)
        if message is None:
            return []
        if message.topic == "phoenix" and message.event == "heartbeat":
            return [self._reply(message, None)]
        if not isinstance(message.topic, str):
            return [self._unmatched(message)]
        channel = self.channels.get(message.topic)
        if message.event == "phx_join":
            return self._join(message, channel, now)
        if channel is None:
            if message.event == "phx_leave":
                return [self._reply(message, message.join_ref)]
            return [self._unmatched(message)]
        match message.event:
            case "phx_leave":
                return self._leave(message, channel)
            case "access_token":
                return self._access_token(message, channel, now)
            case _:
                return []  # unknown events have no answer

    def subscribed(self, channel: Channel) -> list[Action]:
        """Return what follows when the channel's subscription is live."""
        return self._settled(channel, status="ok", text="Subscribed to PostgreSQL")

    def refused(self, channel: Channel, reason: str) -> list[Action]:
        """Return what follows when there can be no subscription; the channel stays joined, as on the real server."""
        return self._settled(channel, status="error", text=reason)

    def expire(self, now: float) -> list[Action]:
        """Close the channels whose token has run out."""
        actions: list[Action] = []
        for channel in [c for c in self.channels.values() if c.token.expires_at <= now]:
            seconds = math.floor(now - channel.token.expires_at)
            actions += self._stop(channel, f"Token has expired {seconds} seconds ago")
        return actions

    @property
    def next_expiry(self) -> float | None:
        """When `expire` is next needed, in seconds since 1970; None without channels."""
        return min((c.token.expires_at for c in self.channels.values()), default=None)

    def end(self) -> list[Action]:
        """Give up all channels; the connection is gone."""
        actions: list[Action] = [Unsubscribe(channel) for channel in self.channels.values()]
        for channel in self.channels.values():
            channel.state = State.CLOSED
        self.channels.clear()
        return actions

    # -- joining and leaving

    def _join(self, message: Message, old: Channel | None, now: float) -> list[Action]:
        topic = message.topic
        if not topic.startswith(TOPIC_PREFIX):
            return [self._unmatched(message)]
        actions: list[Action] = []
        if old is not None:
            # Phoenix stops the old channel first and tells of it after the new one's reply
            if old.state is State.JOINING:
                actions += self._joined(old)
            actions.append(Unsubscribe(old))
            old.state = State.CLOSED
            del self.channels[topic]
        try:
            self._check_count()
            config = parse_join(topic, message.payload)
            token = self._join_token(config, now)
        except JoinRefused as refusal:
            response = {"reason": str(refusal)}
            actions.append(self._reply(message, message.join_ref, status="error", response=response))
            if old is not None:
                actions.append(self._send(frames.close(old.join_ref, topic)))
            return actions
        channel = Channel(topic, message.join_ref, message.ref, config, token, replaced=old)
        self.channels[topic] = channel
        if config.changes.error is not None:
            return [*actions, *self.refused(channel, config.changes.error)]
        if not config.changes.bindings:
            return [*actions, *self._joined(channel)]
        channel.subscribing = True
        actions.append(Subscribe(channel))
        return actions

    def _check_count(self) -> None:
        if len(self.channels) >= MAX_CHANNELS:
            raise JoinRefused("ChannelRateLimitReached: Too many channels")

    def _join_token(self, config: JoinConfig, now: float) -> Token:
        """Return the token a channel lives by: its own if it brought one, else the connection's."""
        own = config.access_token
        raw = self._token.raw if own is None or own.startswith("sb_") else own
        try:
            return self._verify(raw, now)
        except TokenRefused as refusal:
            raise JoinRefused(refusal.join_reason) from refusal

    def _joined(self, channel: Channel) -> list[Action]:
        channel.state = State.JOINED
        response = {_CHANGES: channel.config.changes.echo}
        payload = {"status": "ok", "response": response}
        actions: list[Action] = [
            self._send(frames.Message(channel.join_ref, channel.ref, channel.topic, "phx_reply", payload))
        ]
        if channel.replaced is not None:
            actions.append(self._send(frames.close(channel.replaced.join_ref, channel.topic)))
            channel.replaced = None
        if channel.config.presence_enabled:
            actions.append(
                self._send(frames.Message(channel.join_ref, None, channel.topic, "presence_state", {}))
            )
        return actions

    def _settled(self, channel: Channel, *, status: str, text: str) -> list[Action]:
        if channel.state is State.CLOSED:
            return []
        channel.subscribing = False
        actions = self._joined(channel) if channel.state is State.JOINING else []
        actions.append(self._system(channel, extension=_CHANGES, status=status, text=text))
        return actions

    def _leave(self, message: Message, channel: Channel) -> list[Action]:
        if message.join_ref is not None and message.join_ref != channel.join_ref:
            return []  # meant for a channel that is gone
        actions = self._joined(channel) if channel.state is State.JOINING else []
        actions.append(self._reply(message, channel.join_ref))
        return actions + self._close(channel)

    # -- tokens

    def _access_token(self, message: Message, channel: Channel, now: float) -> list[Action]:
        payload = message.payload
        raw = payload.get("access_token") if isinstance(payload, dict) else None
        if not isinstance(raw, str) or raw.startswith("sb_") or raw == channel.token.raw:
            return []
        try:
            channel.token = self._verify(raw, now)
        except TokenRefused as refusal:
            return self._stop(channel, refusal.channel_text)
        if not channel.config.changes.bindings:
            return []
        channel.subscribing = True
        return [Subscribe(channel)]

    def _stop(self, channel: Channel, text: str) -> list[Action]:
        return [
            self._system(channel, extension="system", status="error", text=text),
            *self._close(channel),
        ]

    def _close(self, channel: Channel) -> list[Action]:
        channel.state = State.CLOSED
        del self.channels[channel.topic]
        return [Unsubscribe(channel), self._send(frames.close(channel.join_ref, channel.topic))]

    # -- frames

    def _send(self, message: Message) -> Send:
        return Send(frames.encode(self.vsn, message))

    def _system(self, channel: Channel, *, extension: str, status: str, text: str) -> Send:
        return self._send(
            frames.system(channel.join_ref, channel.topic, extension=extension, status=status, text=text)
        )

    def _unmatched(self, message: Message) -> Send:
        return self._reply(message, None, status="error", response={"reason": "unmatched topic"})

    def _reply(self, message: Message, join_ref: Any, *, status: str = "ok", response: Any = None) -> Send:
        answer = frames.reply(message, join_ref, status=status, response={} if response is None else response)
        return self._send(answer)
