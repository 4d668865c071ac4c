"""The protocol state of one connection: frames in, actions out.

The shell feeds received frames and the time, and does the actions in order. Two of them it answers later:
`Authorize` with `authorized()` or `denied()`, and `Subscribe` with `subscribed()` or `refused()`. The join reply of
a channel with postgres_changes bindings is held until then, so that nothing committed after the reply is lost (the
real server replies at once and loses what is committed before its feed is ready). Events of other channels go on
meanwhile; what comes for the channel itself waits for the reply.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import orjson

from embedded.phoenix import frames
from embedded.phoenix.actions import (
    Action,
    Authorize,
    AwaitReplication,
    Disconnect,
    Enter,
    JoinFailed,
    Publish,
    Send,
    SendFrame,
    SendPresence,
    Subscribe,
    Track,
    Unsubscribe,
    Untrack,
)
from embedded.phoenix.broadcast import BinaryBroadcast, Broadcast, TextBroadcast, UserBroadcast
from embedded.phoenix.channel import OPEN, TOPIC_PREFIX, Access, Channel, JoinConfig, State, Token, parse_join
from embedded.phoenix.errors import JoinRefused, TokenRefused
from embedded.phoenix.limits import Limits, Rate, Recent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from embedded.phoenix.frames import Message, Vsn

TOO_MANY_MESSAGES: Final = "Too many messages per second"
TOO_MANY_JOINS: Final = "Too many joins per second"
_CHANGES: Final = "postgres_changes"
_WAITING_MESSAGES: Final = 1000
_WAITING_BYTES: Final = 8 * 1024 * 1024
"""What a client may send on channels before they are joined, on one and on all; what is more is dropped."""
_GOING_AWAY: Final = 1001


class Session:
    """One connection after its handshake. `verify` returns the token in a text or raises TokenRefused.

    `joins` counts the joins of all connections, for the limit on them. `early_reply` answers joins before their
    subscription is live, as the real server does.
    """

    def __init__(
        self,
        vsn: Vsn,
        token: Token,
        verify: Callable[[str, float], Token],
        *,
        limits: Limits | None = None,
        joins: Rate | None = None,
        early_reply: bool = False,
    ) -> None:
        self.vsn: Final = vsn
        self._early_reply = early_reply
        self.channels: Final[dict[str, Channel]] = {}
        self.tokens_changed = False
        """Set when `next_expiry` may have changed; whoever keeps the time sets it back."""
        self._waiting_bytes = 0
        self._frame_bytes = 0
        self._token = token
        self._verify = verify
        self._limits = Limits() if limits is None else limits
        self._joins = Rate(self._limits.joins_per_second) if joins is None else joins

    def receive(self, data: str | bytes, now: float) -> list[Action]:
        """Return what a text frame leads to; `now` is in seconds since 1970."""
        self._frame_bytes = len(data)
        return self._handle(frames.decode(self.vsn, data), now)

    def receive_binary(self, data: bytes, now: float) -> list[Action]:
        """Return what a binary frame leads to."""
        self._frame_bytes = len(data)
        return self._handle(frames.decode_binary(self.vsn, data), now)

    def authorized(
        self, channel: Channel, access: Access, history: Iterable[bytes | UserBroadcast] = ()
    ) -> list[Action]:
        """Return what follows when it is known what the channel may do in its private room.

        `history` are the messages of before, oldest first: payloads as JSON text, and broadcasts of bytes, which
        1.0.0 has no frame for.
        """
        if channel.state is State.CLOSED:
            return []
        if access.read.nothing:
            return self.denied(
                channel,
                f"Unauthorized: You do not have permissions to read from this Channel topic: {channel.name}",
            )
        channel.access = access
        if channel.state is State.JOINED:
            return [Enter(channel), *self._resubscribe(channel)]
        channel.history = tuple(history)
        return self._admitted(channel)

    def denied(self, channel: Channel, reason: str) -> list[Action]:
        """Return what follows when the channel may not be in its private room."""
        match channel.state:
            case State.CLOSED:
                return []
            case State.JOINED:
                return self._stop(channel, reason.partition(": ")[2] or reason)
            case State.JOINING:
                return [self._remove(channel), *self._join_error(channel, reason)]

    def subscribed(self, channel: Channel) -> list[Action]:
        """Return what follows when the channel's subscription is live."""
        return self._settled(channel, status="ok", text="Subscribed to PostgreSQL")

    def refused(self, channel: Channel, reason: str) -> list[Action]:
        """Return what follows when there can be no subscription; the channel stays joined, as on the real server."""
        return self._settled(channel, status="error", text=reason)

    def replicating(self, channel: Channel) -> list[Action]:
        """Return what follows when messages from the database flow."""
        if channel.state is State.CLOSED:
            return []
        return [
            self._system(channel, extension="system", status="ok", text="Replication connection established")
        ]

    def not_replicating(self, channel: Channel) -> list[Action]:
        """Return what follows when they do not flow in time."""
        if channel.state is State.CLOSED:
            return []
        return self._stop(channel, "Replication connection was not established in time")

    def presence_state(self, channel: Channel, state: bytes) -> list[Action]:
        """Return the frame that tells a new channel who is present; `state` is a JSON object."""
        return [self._push(channel, "presence_state", state)]

    def overrun(self, channel: Channel) -> list[Action]:
        """Close a channel that more was sent to than the limit allows."""
        return [] if channel.state is State.CLOSED else self._stop(channel, TOO_MANY_MESSAGES)

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

    # -- messages

    def _handle(self, message: Message | None, now: float) -> list[Action]:
        if message is None:
            return []
        if message.topic == "phoenix" and message.event == "heartbeat":
            return [self._reply(message, None)]
        channel = self.channels.get(message.topic) if isinstance(message.topic, str) else None
        if channel is not None and message.event != "phx_join":
            return self._in_channel(message, channel, now)
        if isinstance(message.topic, str):
            if message.event == "phx_join":
                return self._join(message, channel, now)
            if message.event == "phx_leave":
                return [self._reply(message, message.join_ref)]
        return [self._unmatched(message)]

    def _in_channel(self, message: Message, channel: Channel, now: float) -> list[Action]:
        match message.event:
            case "phx_leave":
                return self._leave(message, channel)
            case "access_token":
                return self._access_token(message, channel, now)
            case "broadcast" | "presence" if channel.state is State.JOINING:
                self._wait(message, channel, now)
                return []
            case "broadcast":
                return self._broadcast(message, channel)
            case "presence":
                return self._presence(message, channel, now)
            case _:
                return []  # unknown events have no answer

    def _wait(self, message: Message, channel: Channel, now: float) -> None:
        size = self._frame_bytes
        if len(channel.waiting) < _WAITING_MESSAGES and self._waiting_bytes + size <= _WAITING_BYTES:
            self._waiting_bytes += size
            channel.waiting_bytes += size
            channel.waiting.append((message, now))

    def _waited(self, channel: Channel) -> list[tuple[Message, float]]:
        """Return what waits for the channel's join, which is decided."""
        self._waiting_bytes -= channel.waiting_bytes
        channel.waiting_bytes = 0
        waiting, channel.waiting = channel.waiting, []
        return waiting

    # -- joining and leaving

    def _join(self, message: Message, old: Channel | None, now: float) -> list[Action]:
        topic = message.topic
        if not topic.startswith(TOPIC_PREFIX):
            return [self._unmatched(message)]
        actions: list[Action] = []
        if old is not None:
            # Phoenix stops the old channel first and tells of it after the new one's reply
            if old.state is State.JOINING:
                actions += self._given_up(old)
            if old.state is not State.CLOSED:
                actions.append(self._remove(old))
        try:
            self._check_limits(now)
            config = parse_join(topic, message.payload)
            token = self._join_token(config, now)
        except JoinRefused as refusal:
            response = {"reason": str(refusal)}
            actions.append(JoinFailed())
            actions.append(self._reply(message, message.join_ref, status="error", response=response))
            if old is not None:
                actions.append(self._send(frames.close(old.join_ref, topic)))
            if self._joins.exceeded(now):
                actions.append(Disconnect(_GOING_AWAY))
            return actions
        channel = Channel(topic, message.join_ref, message.ref, config, token, replaced=old)
        channel.presence = Recent(self._limits.presence_messages, self._limits.presence_seconds)
        self.channels[topic] = channel
        self.tokens_changed = True
        if config.private:
            return [*actions, Authorize(channel)]
        channel.access = OPEN
        return actions + self._admitted(channel)

    def _check_limits(self, now: float) -> None:
        self._joins.add(1, now)
        if self._joins.exceeded(now):
            raise JoinRefused(f"ClientJoinRateLimitReached: {TOO_MANY_JOINS}")
        limit = self._limits.channels_per_client
        if limit is not None and len(self.channels) >= limit:
            raise JoinRefused("ChannelRateLimitReached: Too many channels")

    def _join_token(self, config: JoinConfig, now: float) -> Token:
        """Return the token a channel lives by: its own if it brought one, else the connection's."""
        own = config.access_token
        raw = self._token.raw if own is None or own.startswith("sb_") else own
        try:
            return self._verify(raw, now)
        except TokenRefused as refusal:
            raise JoinRefused(refusal.join_reason) from refusal

    def _admitted(self, channel: Channel) -> list[Action]:
        """Return what follows when the channel may be in its room: the subscription first, if it wants one."""
        if channel.config.changes.error is not None:
            return self.refused(channel, channel.config.changes.error)
        if not channel.config.changes.bindings:
            return self._joined(channel)
        channel.subscribing = True
        if self._early_reply:
            return [*self._joined(channel), *([] if channel.state is State.CLOSED else [Subscribe(channel)])]
        return [Subscribe(channel)]

    def _given_up(self, channel: Channel) -> list[Action]:
        """Answer a join whose client does not wait for it; one that may not be let in is not."""
        return [] if channel.access is None else self._joined(channel)

    def _joined(self, channel: Channel, told: Send | None = None) -> list[Action]:
        """Return the reply and what belongs to it; `told` is how its subscription fared."""
        channel.state = State.JOINED
        payload = {"status": "ok", "response": {_CHANGES: channel.config.changes.echo}}
        actions: list[Action] = [
            self._send(frames.Message(channel.join_ref, channel.ref, channel.topic, "phx_reply", payload)),
            *self._close_replaced(channel),
            Enter(channel),
        ]
        if channel.config.presence_enabled and channel.access is not None and channel.access.read.presence:
            actions.append(SendPresence(channel))
        for past in channel.history:
            if isinstance(past, bytes):
                actions.append(self._push(channel, "broadcast", past))
            elif (frame := past.frame(self.vsn, channel.room)) is not None:
                actions.append(SendFrame(frame))
        channel.history = ()
        if told is not None:
            actions.append(told)
        if channel.config.replication_ready:
            actions.append(AwaitReplication(channel))
        for message, now in self._waited(channel):
            actions += self._handle(message, now)  # which may end the channel
        return actions

    def _join_error(self, channel: Channel, reason: str) -> list[Action]:
        payload = {"status": "error", "response": {"reason": reason}}
        return [
            JoinFailed(),
            self._send(frames.Message(channel.join_ref, channel.ref, channel.topic, "phx_reply", payload)),
            *self._close_replaced(channel),
        ]

    def _close_replaced(self, channel: Channel) -> list[Action]:
        old, channel.replaced = channel.replaced, None
        return [] if old is None else [self._send(frames.close(old.join_ref, channel.topic))]

    def _settled(self, channel: Channel, *, status: str, text: str) -> list[Action]:
        if channel.state is State.CLOSED:
            return []
        channel.subscribing = False
        told = self._system(channel, extension=_CHANGES, status=status, text=text)
        return [told] if channel.state is State.JOINED else self._joined(channel, told)

    def _leave(self, message: Message, channel: Channel) -> list[Action]:
        if message.join_ref is not None and message.join_ref != channel.join_ref:
            return []  # meant for a channel that is gone
        actions = self._given_up(channel) if channel.state is State.JOINING else []
        actions.append(self._reply(message, channel.join_ref))
        return actions if channel.state is State.CLOSED else actions + self._close(channel)

    # -- broadcast and presence

    def _broadcast(self, message: Message, channel: Channel) -> list[Action]:
        broadcast, size = _broadcast(message.payload)
        if broadcast is None:
            return self._crash(channel)
        answered = channel.config.acknowledges
        if self._too_large(size):
            # the response is a bare text, which realtime-py does not take for a reply; so it is on the real server
            return (
                [self._reply(message, channel.join_ref, status="error", response="payload_size_exceeded")]
                if answered
                else []
            )
        if channel.access is None or not channel.access.write.broadcast:
            return []  # no answer even to who asked for one
        actions: list[Action] = [Publish(channel, broadcast)]
        if answered:
            actions.append(self._reply(message, channel.join_ref))
        return actions

    def _presence(self, message: Message, channel: Channel, now: float) -> list[Action]:
        payload = {} if message.payload is None else message.payload
        if not isinstance(payload, dict):
            return self._crash(channel)
        if channel.presence is not None and not channel.presence.one_more(now):
            return self._stop(channel, "Client presence rate limit exceeded")
        event = payload.get("event")
        allowed = channel.access is not None and channel.access.write.presence
        match event.lower() if isinstance(event, str) else event:
            case None:
                return [self._reply(message, channel.join_ref)]
            case "track" if allowed:
                return self._track(message, channel, payload.get("payload", {}))
            case "untrack" if allowed:
                return [self._reply(message, channel.join_ref), Untrack(channel)]
            case _:
                return [self._reply(message, channel.join_ref, status="error")]

    def _track(self, message: Message, channel: Channel, tracked: Any) -> list[Action]:
        if not isinstance(tracked, dict):
            reason = {"reason": "Presence track payload must be a map"}
            return [self._reply(message, channel.join_ref, status="error", response=reason)]
        # the refs are the server's to give
        own = {key: value for key, value in tracked.items() if key not in ("phx_ref", "phx_ref_prev")}
        text = orjson.dumps(own, option=orjson.OPT_SORT_KEYS)
        if self._too_large(len(text)):
            return self._stop(channel, "Track message size exceeded")
        return [self._reply(message, channel.join_ref), Track(channel, text)]

    def _too_large(self, size: int) -> bool:
        limit = self._limits.payload_bytes
        return limit is not None and size > limit

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
        self.tokens_changed = True
        return [Authorize(channel)] if channel.config.private else self._resubscribe(channel)

    def _resubscribe(self, channel: Channel) -> list[Action]:
        if channel.config.changes.error is not None or not channel.config.changes.bindings:
            return []
        channel.subscribing = True
        return [Subscribe(channel)]

    # -- the end of a channel

    def _stop(self, channel: Channel, text: str) -> list[Action]:
        actions = self._given_up(channel) if channel.state is State.JOINING else []
        if channel.topic in self.channels:  # what waited for the join may have ended it
            told = self._system(channel, extension="system", status="error", text=text)
            actions += [told, *self._close(channel)]
        return actions

    def _close(self, channel: Channel) -> list[Action]:
        return [self._remove(channel), self._send(frames.close(channel.join_ref, channel.topic))]

    def _crash(self, channel: Channel) -> list[Action]:
        """End a channel as Phoenix does when its process crashes: its client is to join again."""
        error = frames.Message(
            channel.join_ref, channel.join_ref, channel.topic, "phx_error", {"reason": "channel_crash"}
        )
        return [self._remove(channel), self._send(error)]

    def _remove(self, channel: Channel) -> Unsubscribe:
        channel.state = State.CLOSED
        del self.channels[channel.topic]
        self._waited(channel)
        return Unsubscribe(channel)

    # -- frames

    def _send(self, message: Message) -> Send:
        return Send(frames.encode(self.vsn, message))

    def _push(self, channel: Channel, event: str, payload: bytes) -> Send:
        return self._send(
            frames.Message(channel.join_ref, None, channel.topic, event, orjson.Fragment(payload))
        )

    def _system(self, channel: Channel, *, extension: str, status: str, text: str) -> Send:
        return self._send(
            frames.system(channel.join_ref, channel.topic, extension=extension, status=status, text=text)
        )

    def _unmatched(self, message: Message) -> Send:
        return self._reply(message, None, status="error", response={"reason": "unmatched topic"})

    def _reply(self, message: Message, join_ref: Any, *, status: str = "ok", response: Any = None) -> Send:
        answer = frames.reply(message, join_ref, status=status, response={} if response is None else response)
        return self._send(answer)


def _broadcast(payload: Any) -> tuple[Broadcast | None, int]:
    """Return what is to be relayed and its size in bytes; None for what the real server crashes on."""
    match payload:
        case frames.UserPush(event, data, is_json):
            return UserBroadcast(event, data, is_json), len(data)
        case bytes():
            return BinaryBroadcast(payload), len(payload)
        case dict():
            text = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
            return TextBroadcast(text), len(text)
        case _:
            return None, 0
