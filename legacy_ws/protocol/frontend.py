"""``/ws/frontend``: seed 002's relay. The state in one shape, the last known one while its source is down; and logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from legacy_ws.protocol.container_states import StateChange
from legacy_ws.protocol.containers import (
    Change,
    Container,
    ContainerDialect,
    ErrorMessage,
    LogSnapshot,
    NewLogs,
    change,
)
from legacy_ws.protocol.records import Codec, Message, encode


@dataclass(frozen=True, slots=True)
class ContainerUpdate(Message):
    """Server: every container, and what changed when that is why it is sent.

    ``stale`` is ours: a device's Docker does not answer, and its containers are as they were last seen.
    """

    TYPE: ClassVar[str] = "container_update"
    timestamp: datetime
    containers: tuple[Container, ...]
    changes: tuple[Change, ...] = ()
    stale: bool = False


SERVER = Codec(ContainerUpdate, LogSnapshot, NewLogs, ErrorMessage)
"""What a server sends. A client's requests are the controller's."""


class FrontendDialect(ContainerDialect):
    """The relay: the controller's sessions and logs, its own form of the state."""

    name: ClassVar[str] = "frontend"
    path: ClassVar[str] = "/ws/frontend"

    def state(self, now: datetime) -> bytes:
        """Write every container."""
        return encode(ContainerUpdate(now, self.containers(now), stale=self.states.stale))

    def changed(self, changes: Sequence[StateChange], now: datetime) -> bytes:
        """Write every container and what changed."""
        told = tuple(change(one, now, self.prefix) for one in changes)
        return encode(ContainerUpdate(now, self.containers(now), told, stale=self.states.stale))
