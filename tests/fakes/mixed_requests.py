"""A steady mix of requests to HTTP services, and what became of each: handled, or an error that nobody had foreseen.

Handled is an answer below 400; a refusal in the service's own form; a 503 in that form which says when to ask again; and no
answer while the service was dead. The rest is not: a 500, a connection that ends although the service lives, another form, an
answer later than the service says it takes at most.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import httpx

HANDLED = ("answered", "refused", "unavailable", "away", "broken off")
"""``broken off``: the end of an export was missing, which is how an export tells that it is not whole."""
MISTAKES = ("error", "form", "no Retry-After")
"""Answers that no fault excuses."""
UNHANDLED = (*MISTAKES, "cut", "late")
HEALTH = frozenset({"/health", "/ready", "/health/detailed", "/health/polling"})
"""What answers with 503 and says how it is."""
CLIENT_SECONDS = 40.0
PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the mix; ``body`` makes a new one each time."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Any] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A service: ``form`` tells whether an answer of 400 or more is in its form, ``seconds`` how long it takes at most."""

    name: str
    url: str
    requests: Sequence[Asked]
    form: Callable[[Asked, httpx.Response], bool]
    seconds: float


class Windows:
    """Times, in monotonic seconds, in which something was so with a service."""

    def __init__(self) -> None:
        self._all: list[tuple[str, float, float | None]] = []

    @contextmanager
    def open(self, *names: str) -> Iterator[None]:
        """Have it so with these services for as long as the block runs."""
        began, first = time.monotonic(), len(self._all)
        self._all += [(name, began, None) for name in names]
        try:
            yield
        finally:
            ended = time.monotonic()
            self._all[first : first + len(names)] = [(name, began, ended) for name in names]

    def seconds(self, name: str, start: float, end: float) -> float:
        """Return how much of a time it was so."""
        return sum(
            max(0.0, min(end, end if until is None else until) - max(start, since))
            for each, since, until in self._all
            if each == name
        )


def classified(  # noqa: PLR0911 - a class each
    target: Target, asked: Asked, answer: httpx.Response, seconds: float
) -> str:
    """Return the class of an answer that took so many seconds."""
    if seconds > target.seconds:
        return "late"
    status = answer.status_code
    if status < 400:
        return "answered"
    if status not in {503, 504} and status >= 500:
        return "error"
    health = asked.path in HEALTH and status == 503
    if not (health and is_object_with(answer, "status")) and not target.form(asked, answer):
        return "form"
    if status < 500:
        return "refused"
    if status == 503 and not health and not answer.headers.get("retry-after", "").isdigit():
        return "no Retry-After"
    return "unavailable"


def is_object_with(answer: httpx.Response, *keys: str) -> bool:
    """Tell whether a body is a JSON object with one of the keys."""
    try:
        body = answer.json()
    except ValueError:
        return False
    return isinstance(body, dict) and any(body.get(key) for key in keys)


def problem_form(asked: Asked, answer: httpx.Response) -> bool:
    """Tell whether an answer is a problem (RFC 9457), or OFREP's failure where OFREP is asked."""
    if asked.path.startswith("/ofrep/") and is_object_with(answer, "errorCode"):
        return True
    return (
        answer.headers.get("content-type") == "application/problem+json"
        and is_object_with(answer, "detail")
        and bool(answer.json()["status"] == answer.status_code)
    )


def supabase_form(_: Asked, answer: httpx.Response) -> bool:
    """Tell whether an answer is in the form of PostgREST, GoTrue, Realtime or the gateway before them."""
    return is_object_with(answer, "message", "msg", "error", "errors")


def text_form(_: Asked, answer: httpx.Response) -> bool:
    """Tell whether an answer is text for people, as a WebSocket server's refusals are; not of a program that has failed."""
    plain = answer.headers.get("content-type", "").startswith("text/plain")
    return plain and bool(answer.text.strip()) and "Traceback" not in answer.text


class Load:
    """Asks all targets, each in threads of its own, for as long as the block runs; ``counts`` are by target and class.

    ``away`` are the times in which a service was dead, ``frozen`` those in which it could not run.
    """

    def __init__(self, targets: Sequence[Target], *, threads: int = 2, seed: int = 1) -> None:
        self.counts: dict[str, Counter[str]] = {target.name: Counter() for target in targets}
        self._unhandled: Counter[str] = Counter()
        self._told: dict[str, str] = {}
        self.away = Windows()
        self.frozen = Windows()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(target, random.Random(f"{seed} {target.name} {number}")))
            for target in targets
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def asked(self, name: str) -> int:
        """Return how many requests to a service have ended."""
        with self._lock:
            return self.counts[name].total()

    def seen(self, name: str, kind: str) -> int:
        """Return how many requests to a service ended so."""
        with self._lock:
            return self.counts[name][kind]

    def table(self) -> str:
        """Return the counts, a line for each service, and below them what was not handled, with what was told of it first."""
        columns = (*HANDLED, *UNHANDLED)
        lines = [f"{'':<10}" + "".join(f"{column:>15}" for column in columns)]
        for name, counts in self.counts.items():
            lines.append(f"{name:<10}" + "".join(f"{counts[column]:>15}" for column in columns))
        lines += [f"{count} x {what}: {self._told[what]}" for what, count in self._unhandled.most_common(40)]
        return "\n".join(lines)

    def _ask(self, target: Target, chance: random.Random) -> None:
        with httpx.Client(base_url=target.url, timeout=CLIENT_SECONDS) as http:
            while not self._stop.is_set():
                for asked in chance.sample(target.requests, len(target.requests)):
                    if self._stop.wait(PAUSE_SECONDS):
                        return
                    self._once(target, http, asked)

    def _once(self, target: Target, http: httpx.Client, asked: Asked) -> None:
        body = asked.body() if asked.body else None
        began = time.monotonic()
        try:
            answer = http.request(asked.method, asked.path, headers=dict(asked.headers), json=body)
        except httpx.TransportError as error:
            ended = time.monotonic()
            kind, told = self._without_answer(target, asked, error, began, ended), repr(error)
        else:
            ended = time.monotonic()
            took = ended - began - self.frozen.seconds(target.name, began, ended)
            kind, told = classified(target, asked, answer, took), f"{answer.status_code} {answer.text[:300]}"
        with self._lock:
            self.counts[target.name][kind] += 1
            if kind in UNHANDLED:
                what = f"{kind}: {target.name} {asked.method} {asked.path}"
                self._unhandled[what] += 1
                self._told.setdefault(what, f"after {ended - began:.1f} s: {told}")

    def _without_answer(
        self, target: Target, asked: Asked, error: httpx.TransportError, began: float, ended: float
    ) -> str:
        if self.away.seconds(target.name, began, ended):
            return "away"
        if isinstance(error, httpx.TimeoutException):
            return "late"
        broken_off = isinstance(error, httpx.RemoteProtocolError) and "incomplete" in str(error)
        return "broken off" if broken_off and asked.path.startswith("/api/export/") else "cut"


def operations(
    document: Mapping[str, Any], samples: Mapping[str, str], tokens: Sequence[str | None]
) -> list[Asked]:
    """Return a request for each operation of an OpenAPI document and each token; None is nobody's.

    ``samples`` are values of parameters by name; what has none is made by its schema.
    """
    made = []
    schemas = document.get("components", {}).get("schemas", {})
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            filled, query = path, []
            for parameter in operation.get("parameters", ()):
                name, where = parameter["name"], parameter["in"]
                value = samples.get(name) or str(sample(parameter["schema"], schemas))
                if where == "path":
                    filled = filled.replace(f"{{{name}}}", value)
                elif where == "query" and parameter.get("required"):
                    query.append(f"{name}={value}")
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            body = None
            if content is not None:
                fixed = content.get("example") or sample(content["schema"], schemas)
                body = pushed if path == "/api/events" else lambda fixed=fixed: fixed
            whole = f"{filled}?{'&'.join(query)}" if query else filled
            for token in tokens:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                made.append(Asked(method.upper(), whole, headers, body))
    return made


def pushed() -> dict[str, Any]:
    """Return the body of a push of one event."""
    event = {
        "id": str(uuid.uuid4()), "stream": "mix/numbers", "kind": "number",
        "occurred_at": datetime.now(UTC).isoformat(), "payload": {"number": 1},
    }  # fmt: skip
    return {"events": [event]}


def sample(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:  # noqa: C901, PLR0911 - one for each kind of schema
    """Return a value that a JSON schema allows, as its examples have it where there are some."""
    if "$ref" in schema:
        return sample(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("default") is not None:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return sample(schema[key][0], schemas)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: sample(properties[name], schemas) for name in schema.get("required", ())}
        case "array":
            return [sample(schema["items"], schemas)] if schema.get("minItems") else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case "string":
            return (
                str(uuid.UUID(int=7)) if schema.get("format") == "uuid" else "a" * schema.get("minLength", 8)
            )
    return None
