"""One WebSocket of the Realtime server: reads frames into its session and does what the session says.

Everything of a connection runs in its own tasks: whatever a client sends, the worst that follows is the end of its
own connection.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiohttp import WSCloseCode, WSMsgType, web

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
from embedded.phoenix.channel import Access, State, replay_wanted
from embedded.phoenix.errors import BadSubscription, JoinRefused
from embedded.phoenix.session import Session
from embedded.realtime_broadcast import Member, replayed_message

if TYPE_CHECKING:
    from embedded.phoenix.channel import Channel, Permissions
    from embedded.realtime import RealtimeServer
    from embedded.realtime_broadcast import Replayed
    from embedded.realtime_feed import Subscription

_LONGEST_TIMER_SECONDS: Final = 3600.0
_REPLICATION_SECONDS: Final = 60.0
_CLOSE_SECONDS: Final = 5.0


class Connection:
    """One open WebSocket: does what its session says."""

    def __init__(
        self,
        server: RealtimeServer,
        socket: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        session: Session,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.socket = socket
        self.session = session
        self._server = server
        self._transport = transport
        self._outbox = server.outbox(transport)
        self._tasks = tasks
        self._joining: dict[Channel, asyncio.Task[None]] = {}
        self._awaiting: dict[Channel, asyncio.Task[None]] = {}
        self._subscriptions: dict[Channel, Subscription] = {}
        self._members: dict[Channel, Member] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._penalty = asyncio.Lock()

    async def receive(self, idle_seconds: float) -> None:
        """Handle frames until the connection ends."""
        while True:
            try:
                message = await self.socket.receive(timeout=idle_seconds)
            except TimeoutError:
                await self.close(WSCloseCode.OK)
                return
            match message.type:
                case WSMsgType.TEXT:
                    await self._do_in_time(self.session.receive(message.data, time.time()))
                case WSMsgType.BINARY:
                    await self._do_in_time(self.session.receive_binary(message.data, time.time()))
                case WSMsgType.PING:
                    await self.socket.pong(message.data)
                case WSMsgType.PONG:
                    pass
                case _:
                    return

    def send_away(self, code: int, reason: str) -> None:
        """Close the connection if it has subscriptions, so that its client comes back and reads what it missed."""
        if self._subscriptions:
            self._close(code, reason)

    def end(self) -> None:
        """Give up what the connection has; it is closed."""
        self._outbox.close()
        self._do(self.session.end())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection; one whose client reads nothing is cut off, for the library would wait without end to tell it."""
        self._outbox.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.socket.close(code=code, message=reason.encode())
        except TimeoutError:
            self._transport.abort()

    def _close(self, code: int, reason: str = "") -> None:
        self._tasks.create_task(self.close(code, reason))

    # -- actions

    async def _do_in_time(self, actions: list[Action]) -> None:
        """Do the actions; with the habit of it, what follows from a refused join only after its penalty."""
        seconds = self._server.habits.join_penalty_seconds
        if seconds:
            async with self._penalty:
                if any(isinstance(action, JoinFailed) for action in actions):
                    await asyncio.sleep(seconds)
        self._do(actions)

    def _do(self, actions: list[Action]) -> None:  # noqa: C901, PLR0912  # one branch per action
        entered: list[Member] = []
        for action in actions:
            match action:
                case Send(text):
                    self._outbox.write(frames.text_frame(text))
                case SendFrame(frame):
                    self._outbox.write(frame)
                case Publish(channel, message):
                    exclude = None if channel.config.hears_itself else self._members.get(channel)
                    self._server.hub.publish(channel.room, message, exclude=exclude)
                case Enter(channel):
                    entered.append(self._enter(channel))
                case SendPresence(channel):
                    state = self._server.presence.state(channel.room)
                    self._do(self.session.presence_state(channel, state))
                case Track(channel, payload) if channel in self._members:
                    key = channel.config.presence_key
                    self._server.presence.track(self._members[channel], key, payload)
                case Untrack(channel) if channel in self._members:
                    self._server.presence.untrack(self._members[channel])
                case Track() | Untrack() | JoinFailed():
                    pass  # a limit ended the channel just now; a penalty was waited for
                case Authorize(channel):
                    self._cancel(channel)
                    self._joining[channel] = self._tasks.create_task(self._authorize(channel))
                case Subscribe(channel):
                    self._cancel(channel)
                    self._joining[channel] = self._tasks.create_task(self._subscribe(channel))
                case AwaitReplication(channel):
                    self._awaiting[channel] = self._tasks.create_task(self._await_replication(channel))
                case Unsubscribe(channel):
                    self._leave(channel)
                case Disconnect(code):
                    self._close(code)
        for member in entered:
            member.release()
        if self.session.tokens_changed:
            self._arm()

    def _enter(self, channel: Channel) -> Member:
        member = self._members.get(channel)
        if member is None:
            member = self._members[channel] = self._member(channel)
        access = channel.access
        member.hears_broadcast = access is not None and access.read.broadcast
        member.hears_presence = access is not None and access.read.presence
        self._server.hub.enter(member)
        return member

    def _member(self, channel: Channel) -> Member:
        def overrun() -> None:
            self._do(self.session.overrun(channel))

        return Member(channel.room, self.session.vsn, self._outbox, overrun)

    def _leave(self, channel: Channel) -> None:
        self._cancel(channel)
        awaiting = self._awaiting.pop(channel, None)
        if awaiting is not None:
            awaiting.cancel()
        self._stop(channel)
        member = self._members.pop(channel, None)
        if member is not None:
            self._server.hub.leave(member)
            self._server.presence.untrack(member)

    # -- what takes time

    async def _authorize(self, channel: Channel) -> None:
        try:
            access = await self._access(channel)
            history: list[Replayed] = []
            if channel.state is State.JOINING and not access.read.nothing:
                history = await self._history(channel, access.read)
        except JoinRefused as refusal:
            actions = self.session.denied(channel, str(refusal))
        else:
            actions = self.session.authorized(channel, access, map(replayed_message, history))
        del self._joining[channel]
        await self._do_in_time(actions)

    async def _access(self, channel: Channel) -> Access:
        policies = self._server.policies
        read = await policies.read(channel.token, channel.name)
        return Access(read, read if read.nothing else await policies.write(channel.token, channel.name))

    async def _history(self, channel: Channel, allowed: Permissions) -> list[Replayed]:
        """Return what the channel wants of history; from now on it misses nothing that is sent."""
        if channel.config.replay is None:
            return []
        since, limit = replay_wanted(channel.config.replay)
        if not allowed.broadcast:
            return []
        member = self._members[channel] = self._member(channel)
        member.held = []
        member.hears_presence = False
        self._server.hub.enter(member)
        found = list(await self._server.history.replay(channel.name, since, limit))
        member.replayed = frozenset(message.id for message in found)
        return found

    async def _subscribe(self, channel: Channel) -> None:
        try:
            subscription = await self._server.subscribe(channel, self.session.vsn, self._outbox)
        except BadSubscription as error:
            self._stop(channel)
            actions = self.session.refused(channel, str(error))
        else:
            self._stop(channel)
            self._subscriptions[channel] = subscription
            self._server.start(subscription)
            actions = self.session.subscribed(channel)
        del self._joining[channel]
        self._do(actions)

    async def _await_replication(self, channel: Channel) -> None:
        try:
            async with asyncio.timeout(_REPLICATION_SECONDS):
                await self._server.replicating()
        except TimeoutError:
            actions = self.session.not_replicating(channel)
        else:
            actions = self.session.replicating(channel)
        del self._awaiting[channel]
        self._do(actions)

    def _cancel(self, channel: Channel) -> None:
        task = self._joining.pop(channel, None)
        if task is not None:
            task.cancel()

    def _stop(self, channel: Channel) -> None:
        subscription = self._subscriptions.pop(channel, None)
        if subscription is not None:
            self._server.stop(subscription)

    # -- expiry

    def _arm(self) -> None:
        """Wake up when the next token expires."""
        self.session.tokens_changed = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        expiry = self.session.next_expiry
        if expiry is not None:
            delay = min(max(0.0, expiry - time.time()), _LONGEST_TIMER_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._do(self.session.expire(time.time()))
        self._arm()
