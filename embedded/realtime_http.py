"""Broadcasting over HTTP: `POST /api/broadcast` for a batch, `/api/broadcast/:topic/events/:event` for one message.

Statuses and bodies are those of the real server. Topics have no prefix `realtime:` here. `BroadcastRequest` is what
can be said of a batch without asking anybody; `BroadcastApi` is the shell that asks, and publishes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from embedded.phoenix import numbers
from embedded.phoenix.broadcast import Room, TextBroadcast, UserBroadcast
from embedded.phoenix.errors import JoinRefused, TokenRefused
from embedded.phoenix.limits import Rate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from embedded.phoenix.channel import Token
    from embedded.phoenix.limits import Limits
    from embedded.realtime_broadcast import BroadcastHub, ChannelPolicies

    _Handler = Callable[[web.Request], Awaitable[web.Response]]

_log = logging.getLogger(__name__)

PREFIXES: Final = ("/realtime/v1/api", "/api")
"""Where it is mounted: as the gateway of a project has it, and as the Realtime server itself."""

_BLANK: Final = "can't be blank"
_INVALID: Final = "is invalid"
_TOO_LARGE: Final = "Payload size exceeds tenant limit"
_TOO_MANY: Final = "Too many messages to broadcast, please reduce the batch size"
_EXCEEDED: Final = "You have exceeded your rate limit"
_REQUESTS_EXCEEDED: Final = "Too many requests"
_WRONG_TYPE: Final = "Unsupported Media Type. Use application/json or application/octet-stream"
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One message of a batch; `payload` as it came, `id` for the receivers' `meta`."""

    room: Room
    event: str
    payload: dict[str, Any]
    id: str | None

    def broadcast(self) -> TextBroadcast:
        """Return what receivers get: text, in both versions of the protocol."""
        content: dict[str, Any] = {"event": self.event, "payload": self.payload, "type": "broadcast"}
        if self.id is not None:
            content["meta"] = {"id": self.id}
        return TextBroadcast(_dumps(content))


class InvalidBatch(Exception):  # noqa: N818  # named as it is read: raise InvalidBatch
    """A batch that is not accepted; `errors` is the body's `errors`."""

    def __init__(self, errors: Any) -> None:
        super().__init__(str(errors))
        self.errors = errors


def parse_batch(body: Any, payload_bytes: int | None) -> list[Wanted]:
    """Return the messages of a batch; raises InvalidBatch. One bad message and none is sent."""
    messages = body.get("messages") if isinstance(body, dict) else None
    if messages is None or messages == []:
        raise InvalidBatch({"messages": [_BLANK]})
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise InvalidBatch({"messages": [_INVALID]})
    errors = [_errors(message, payload_bytes) for message in messages]
    if any(errors):
        raise InvalidBatch({"messages": errors})
    return [
        Wanted(
            Room(message["topic"], private=_boolean(message.get("private")) is True),
            message["event"],
            message["payload"],
            message.get("id"),
        )
        for message in messages
    ]


def _errors(message: dict[str, Any], payload_bytes: int | None) -> dict[str, list[str]]:
    """Return what is wrong with each field."""
    errors: dict[str, list[str]] = {}
    for name, kind in (("event", str), ("id", str), ("payload", dict), ("topic", str)):
        value = message.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            if name != "id":
                errors[name] = [_BLANK]
        elif not isinstance(value, kind):
            errors[name] = [_INVALID]
    if message.get("private") is not None and _boolean(message["private"]) is None:
        errors["private"] = [_INVALID]
    if payload_bytes is None or "payload" in errors:
        return errors
    if len(orjson.dumps(message["payload"])) > payload_bytes:
        errors["payload"] = [_TOO_LARGE]
    return errors


def _boolean(value: Any) -> bool | None:
    """Return what counts as a boolean in the real server's forms; None for anything else."""
    if isinstance(value, bool):
        return value
    return _BOOLEANS.get(value) if isinstance(value, str) else None


class BroadcastApi:
    """Serves the two endpoints and `/api/ping`; mount it with `add_routes`."""

    def __init__(
        self,
        hub: BroadcastHub,
        policies: ChannelPolicies,
        verify: Callable[[str, float], Token],
        limits: Limits,
    ) -> None:
        self._hub = hub
        self._policies = policies
        self._verify = verify
        self._limits = limits
        self._requests = Rate(limits.events_per_second)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve under both prefixes."""
        for prefix in PREFIXES:
            for path, handler in (("", self.batch), ("/{topic}/events/{event}", self.single)):
                router.add_route("*", f"{prefix}/broadcast{path}", _only_post(self._limited(handler)))
            router.add_get(f"{prefix}/ping", self.ping)

    async def ping(self, _: web.Request) -> web.Response:
        """Say that the server is there."""
        return _json(200, {"message": "Success"})

    async def batch(self, request: web.Request) -> web.Response:
        """Send up to as many messages as the limit of events allows; private ones without permission are dropped."""
        try:
            body = _loads(await request.read())
        except orjson.JSONDecodeError:
            return _bad_request()
        token = self._token(request)
        if token is None:
            return _json(401, {"message": "Unauthorized"})
        try:
            wanted = parse_batch(body, self._limits.payload_bytes)
        except InvalidBatch as error:
            return _json(422, {"errors": error.errors})
        if (too_many := self._too_many(len(wanted))) is not None:
            return _json(429, {"message": too_many})
        allowed: dict[Room, bool] = {}
        for message in wanted:
            room = message.room
            if room not in allowed:
                allowed[room] = await self._may_write(token, room)
        for message in wanted:
            if allowed[message.room]:
                self._hub.publish(message.room, message.broadcast())
        return web.Response(status=202)

    async def single(self, request: web.Request) -> web.Response:
        """Send one message, whose payload is the body: JSON, or any bytes."""
        is_json = _is_json_type(request.content_type)
        if not is_json and request.content_type != "application/octet-stream":
            return _json(415, {"error": _WRONG_TYPE})
        payload = await request.read()
        if is_json:
            try:
                payload = _wrapped(payload)
            except orjson.JSONDecodeError:
                return _bad_request()
        token = self._token(request)
        if token is None:
            return _json(401, {"message": "Unauthorized"})
        limit = self._limits.payload_bytes
        if limit is not None and len(payload) > limit:
            return _json(422, {"errors": {"payload": [_TOO_LARGE]}})
        private = _boolean(request.query.get("private")) is True
        room = Room(request.match_info["topic"], private=private)
        if not await self._may_write(token, room):
            return _json(403, {"message": "Unauthorized"})
        self._hub.publish(
            room, UserBroadcast(request.match_info["event"], payload, is_json=is_json, trusted=True)
        )
        return web.Response(status=202)

    def _too_many(self, messages: int) -> str | None:
        """Return what to say if so many messages are over the limit of events, together with what was sent lately."""
        limit = self._limits.events_per_second
        if limit is None:
            return None
        average = self._hub.events.average(time.monotonic())
        if average > limit:
            return _EXCEEDED
        return _TOO_MANY if average + messages > limit else None

    def _limited(self, handler: _Handler) -> _Handler:
        """Return the handler with the limit on requests and the headers that tell of it; as it is if there is none."""
        limit = self._limits.events_per_second
        if limit is None:
            return handler

        async def handle(request: web.Request) -> web.Response:
            now = time.monotonic()
            self._requests.add(1, now)
            average = int(self._requests.average(now))
            exceeded = self._requests.exceeded(now)
            answer = _json(429, {"message": _REQUESTS_EXCEEDED}) if exceeded else await handler(request)
            answer.headers["x-rate-limit"] = f"{limit:g}"
            answer.headers["x-rate-rolling"] = str(average)
            answer.headers["x-rate-limit-remaining"] = str(max(0, int(limit) - average))
            return answer

        return handle

    def _token(self, request: web.Request) -> Token | None:
        """Return the token of the caller: a Bearer goes before an apikey, even if it is not valid."""
        scheme, _, raw = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not raw:
            raw = request.headers.get("apikey", request.headers.get("x-api-key", ""))
        try:
            return self._verify(raw, time.time()) if raw else None
        except TokenRefused:
            return None

    async def _may_write(self, token: Token, room: Room) -> bool:
        if not room.private:
            return True
        try:
            return (await self._policies.write(token, room.topic)).broadcast
        except JoinRefused as error:
            _log.warning("A message to the private topic %s was not sent: %s", room.topic, error)
            return False


def _only_post(handler: _Handler) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=404, text="Not Found", content_type="text/html")
        return await handler(request)

    return handle


def _wrapped(body: bytes) -> bytes:
    """Return the payload in a JSON body: what is not an object is wrapped as `_json`; no body is an empty object."""
    value = _loads(body)
    return _dumps(value if isinstance(value, dict) else {"_json": value})


def _loads(body: bytes) -> Any:
    """Return the value of a body, numbers as they pass through; no body is an empty object."""
    value = orjson.loads(body) if body else {}
    exact = numbers.exact(body)
    return value if exact is None else exact


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _is_json_type(content_type: str) -> bool:
    return content_type == "application/json" or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=_dumps(body), content_type="application/json", charset="utf-8")


def _bad_request() -> web.Response:
    return web.Response(status=400, text="Bad Request", content_type="text/html")
