"""Connections to a container engine: how they are made, why they fail, and its events.

The SDK blocks, so everything here runs on a `Reader`'s threads or hands over to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import docker
import requests
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from collectors.collector import CollectorError
from collectors.docker_state import Engine, engine_of
from collectors.threads import Reader

REQUEST_SECONDS = 5
MOST_ASKED = 100
"""Containers whose numbers are asked for at once.

Up to version 24 Docker answers even a one-shot request only at its next tick, of which there is one a second: what is
asked for later waits for a tick of its own (measured with 20.10: 15 containers by five at a time take 2 to 3 s, all at
once 1.05 s).
"""
FOREIGN_ERRORS = (DockerException, requests.RequestException, OSError)
"""What the SDK raises, and what it lets through."""

_LOCAL = "unix:///var/run/docker.sock"
_QUEUE = 1000
"""Events waiting to be told; beyond it they are dropped, and the consumer has to read the list instead."""

log = logging.getLogger(__name__)

Connect = Callable[[], docker.APIClient]
"""Makes a client; blocks. Raises one of FOREIGN_ERRORS."""


class DockerAway(CollectorError):  # noqa: N818 - named for what it is
    """No daemon answers, or it went away."""


def from_environment() -> docker.APIClient:
    """Connect as the docker command would (DOCKER_HOST and its relatives, else the local socket); blocks."""
    options: dict[str, Any] = {**kwargs_from_env()}
    return connect_to(options.pop("base_url", None) or _LOCAL, **options)


def connect_to(base_url: str, **options: Any) -> docker.APIClient:
    """Connect to a daemon; blocks for up to five seconds. Raises DockerException or OSError."""
    if base_url.startswith("unix://"):
        # Tried first by ourselves: the library leaves the socket of each failed connection open.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(REQUEST_SECONDS)
            probe.connect("/" + base_url.removeprefix("unix://").lstrip("/"))
    return docker.APIClient(
        base_url=base_url, version="auto", timeout=REQUEST_SECONDS, max_pool_size=MOST_ASKED, **options
    )


class EventFeed:
    """The engine's events about containers, taken from the wire by a thread that does nothing else.

    The daemon skips a subscriber that is busy for 100 ms. ``queue`` has None when the stream has ended.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.queue: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue(_QUEUE)

    @classmethod
    def opened(
        cls, client: docker.APIClient, actions: Sequence[str], container: str | None = None
    ) -> EventFeed:
        """Subscribe, to one container's events or to all; blocks. Raises one of FOREIGN_ERRORS."""
        filters: dict[str, Any] = {"type": ["container"], "event": list(actions)}
        if container is not None:
            filters["container"] = [container]
        return cls(client.events(decode=True, filters=filters))

    def pump(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Return what the event thread does: hand on every event, then None when the stream ends."""

        def body() -> None:
            try:
                events: Iterator[Mapping[str, Any]] = self._stream
                for event in events:
                    loop.call_soon_threadsafe(self._hand_on, event)
            except FOREIGN_ERRORS as error:
                log.debug("docker: the event stream broke", exc_info=error)
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self._hand_on, None)

        return body

    def _hand_on(self, event: Mapping[str, Any] | None) -> None:
        if event is None and self.queue.full():
            self.queue.get_nowait()  # the end must get through
        with contextlib.suppress(asyncio.QueueFull):  # seen by the consumer
            self.queue.put_nowait(event)

    def close(self) -> None:
        """End the stream, and with it the pump."""
        with contextlib.suppress(*FOREIGN_ERRORS):
            self._stream.close()


class Session:
    """One connection to an engine: a client for questions, asked in bounded threads, and its events."""

    def __init__(self, client: docker.APIClient, events: EventFeed, engine: Engine) -> None:
        self.client = client
        self.events = events
        self.engine = engine

    @classmethod
    async def open(
        cls, connect: Connect, questions: Reader, actions: Sequence[str], container: str | None = None
    ) -> Session:
        """Connect and subscribe; raises DockerAway."""
        client = await ask(questions, connect)
        try:
            engine = engine_of(await ask(questions, lambda: client.version(api_version=False)))
            events = await ask(questions, lambda: EventFeed.opened(client, actions, container))
        except BaseException:
            client.close()
            raise
        return cls(client, events, engine)

    def close(self) -> None:
        """End both; safe to call twice."""
        self.events.close()
        self.client.close()


async def ask(questions: Reader, question: Callable[[], Any]) -> Any:
    """Ask in a thread; raises DockerAway when no answer comes, or a refusal that is not about one container."""
    try:
        return await questions.call(question)
    except FOREIGN_ERRORS as error:
        raise DockerAway(reason_of(error)) from error


def reason_of(error: BaseException) -> str:
    """Return the system's own reason behind the layers of the client libraries, in one sentence."""
    seen: set[int] = set()
    layers: list[Any] = [error]
    while layers:
        layer = layers.pop(0)
        if not isinstance(layer, BaseException) or id(layer) in seen:
            continue
        seen.add(id(layer))
        match layer:
            case PermissionError():
                return "its socket may not be opened by this user; add the user to the group docker"
            case FileNotFoundError():
                return "there is no socket; is the daemon installed and started?"
            case ConnectionRefusedError():
                return "nothing listens on its socket; is the daemon started?"
            case requests.Timeout():
                return f"it does not answer within {REQUEST_SECONDS} s"
        layers += [*layer.args, layer.__cause__, layer.__context__]
    return " ".join(str(error).split()) or type(error).__name__
