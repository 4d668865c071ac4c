"""Every HTTP service is asked all that it answers, by everybody, while parts of the installation are killed, frozen or full.

Under 1 % of the requests to each may end in an error that nobody had foreseen (`tests.fakes.mixed_requests`), and none in an
answer that is a mistake: one in a hundred of so many that succeed would be one in two of those that a fault meets.
``pytest -s`` shows how all of them ended.
"""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from services.database import CONNECT_SECONDS, QUERY_SECONDS
from tests.e2e.installation import Installation, wait_until
from tests.fakes.mixed_requests import (
    MISTAKES,
    UNHANDLED,
    Asked,
    Load,
    Target,
    operations,
    problem_form,
    supabase_form,
    text_form,
)

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-own")]

SERVICE_SECONDS = CONNECT_SECONDS + QUERY_SECONDS
"""How long our services say they take at most: for a connection of their pool, and for the query."""
SUPABASE_SECONDS = 15.0
"""The same of the embedded Supabase: ten for a connection of its pool, five to make one."""
FROZEN_SECONDS = 3.0
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
"""How often all of it happens; FAULT_ROUNDS=20 searches further."""
KILLED = {"postgres": (), "realtime": ("supabase",), "legacy": ("legacy",), "query": ("query",)}
FROZEN = {"query": ("query",), "realtime": ("supabase",), "postgres": ()}
"""Part -> the services that it is; the others have to answer while it is away."""
REQUESTS = 25
"""To each service before, during and after each fault."""
ROLES = ("viewer", "operator", "admin")
SAMPLES = {
    "device": "e2e", "stream": "e2e/system", "field": "cpu_usage", "category": "system", "prefix": "0" * 12,
    "key": "live", "command_id": str(uuid.UUID(int=7)), "container": "c",
}  # fmt: skip
OURS = ("query", "analytics", "control")


def address(made: Installation, name: str) -> str:
    state = json.loads((made.directory / ".crossfade/run/state.json").read_text())
    return f"http://127.0.0.1:{state['addresses'][f'port_{name}']}"


def supabase(made: Installation, tokens: list[str | None]) -> list[Asked]:
    """Return requests to REST, auth, Realtime's HTTP and the gateway before them."""
    told = made.run("supabase", "status", "-o", "env").stdout
    keys = dict(line.replace('"', "").split("=", 1) for line in told.splitlines() if "=" in line)
    anon, service = keys["ANON_KEY"], keys["SERVICE_ROLE_KEY"]
    topics: Any = {"topics": ["global"]}
    asked: list[tuple[str, str, Any]] = [
        *(("GET", f"/rest/v1/{table}?limit=5", None) for table in ("cf_events", "cf_devices", "cf_stream_heads", "cf_alerts")),
        ("GET", "/rest/v1/cf_events?seq=gt.5&order=seq.desc&limit=20", None),
        ("GET", "/rest/v1/cf_events?nothing=eq.1", None),
        ("GET", "/rest/v1/nothing", None),
        ("PATCH", "/rest/v1/cf_events?seq=eq.1", {"kind": "x"}),
        ("POST", "/rest/v1/cf_events", {"seq": 1}),
        ("POST", "/rest/v1/rpc/cf_heads", topics),
        ("POST", "/rest/v1/rpc/cf_snapshot", topics),
        ("POST", "/rest/v1/rpc/nothing", {}),
        *(("GET", f"/auth/v1/{path}", None) for path in ("health", "settings", "user", "admin/users", "nothing")),
        ("POST", "/auth/v1/token?grant_type=password", {"email": "nobody@example.com", "password": "wrong-one"}),
        ("POST", "/auth/v1/token?grant_type=refresh_token", {"refresh_token": "none"}),
        ("POST", "/auth/v1/signup", {"email": "x", "password": "y"}),
        ("POST", "/realtime/v1/api/broadcast", {"messages": [{"topic": "mix", "event": "e", "payload": {}}]}),
        ("POST", "/realtime/v1/api/broadcast", {"messages": [{"topic": "mix", "event": "e", "payload": {}, "private": True}]}),
        ("POST", "/realtime/v1/api/broadcast", {"messages": "none"}),
        ("GET", "/realtime/v1/websocket", None),
        *(("GET", path, None) for path in ("/health", "/healthcheck", "/nothing")),
    ]  # fmt: skip
    return [
        Asked(method, path, headers, None if body is None else lambda body=body: body)
        for method, path, body in asked
        for headers in (
            {},
            {"apikey": service, "Authorization": f"Bearer {service}"},
            *({"apikey": anon, "Authorization": f"Bearer {token}"} for token in tokens if token),
        )
    ]


def targets(made: Installation) -> list[Target]:
    """Return every HTTP service with the requests that it is asked."""
    tokens: list[str | None] = [
        made.run("token", f"mix-{role}", "--role", role).stdout.strip() for role in ROLES
    ]
    assert all(tokens)
    found = []
    for name in OURS:
        url = address(made, name)
        document = httpx.get(f"{url}/openapi.json", timeout=30).json()
        asked = [
            *operations(document, SAMPLES, [None, *tokens]),
            Asked("GET", "/nothing"),
            Asked("PUT", "/ready"),
        ]
        found.append(Target(name, url, asked, problem_form, SERVICE_SECONDS))
    found.append(
        Target("supabase", address(made, "supabase"), supabase(made, tokens), supabase_form, SUPABASE_SECONDS)
    )
    paths = ("/health", "/ready", "/health/detailed", "/health/polling", "/metrics", "/metrics/performance")
    legacy = [
        Asked("GET", path) for path in (*paths, "/nothing", "/ws", "/ws/stream", "/exports/none", "/link")
    ]
    found.append(Target("legacy", address(made, "legacy"), legacy, text_form, SERVICE_SECONDS))
    return found


class Faults:
    """Does something to a part of an installation under load, and waits until that is over."""

    def __init__(self, made: Installation, load: Load, urls: dict[str, str]) -> None:
        self._made = made
        self._load = load
        self._urls = urls

    def steady(self, *without: str) -> None:
        """Wait until every service, but those without an answer now, was asked some more."""
        names = [name for name in self._urls if name not in without]
        least = {name: self._load.asked(name) + REQUESTS for name in names}

        def asked() -> bool:
            return all(self._load.asked(name) >= least[name] for name in names)

        wait_until("all services were asked", asked, 60)

    def kill(self, part: str, *served: str) -> None:
        """Kill -9 a part; the services that it is are away until they answer again."""
        before = self._made.part(part)["pid"]
        with self._load.away.open(*served):
            os.kill(before, signal.SIGKILL)

            def back() -> bool:
                now = self._made.part(part)
                return now["pid"] not in {None, before} and now["state"] == "ready"

            wait_until(f"{part} is back", back, 60)
            for name in served:
                wait_until(f"{name} answers", lambda name=name: answers(self._urls[name]))  # type: ignore[misc]
        self.steady()

    @contextmanager
    def frozen(self, part: str, *served: str) -> Iterator[None]:
        """Stop a part and its children with SIGSTOP, and have it go on after the block."""
        process = psutil.Process(self._made.part(part)["pid"])
        family = [process, *process.children(recursive=True)]
        with self._load.frozen.open(*served):
            try:
                for each in family:
                    each.suspend()
                yield
            finally:
                for each in family:
                    each.resume()

    @contextmanager
    def full(self, part: str) -> Iterator[None]:
        """Let no file of a part grow for as long as the block runs, as on a full disk."""
        process = psutil.Process(self._made.part(part)["pid"])
        soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code < 500
    except httpx.TransportError:
        return False


def over(seconds: float) -> Callable[[], bool]:
    """Return what is true once so many seconds are over."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def test_under_one_per_cent_of_requests_end_in_an_unhandled_error_under_faults_too(
    make_installation: Callable[[], Installation],
) -> None:
    made = make_installation()
    ports = ("--port-analytics", "0")
    made.start(
        "--with", "analytics,control", "--without", "dashboard,parity", "--no-docker", *ports, seconds=200
    )
    asked = targets(made)
    with Load(asked) as load:
        faults = Faults(made, load, {target.name: target.url for target in asked})
        faults.steady()
        for _ in range(ROUNDS):
            for part, served in KILLED.items():
                faults.kill(part, *served)
            for part, served in FROZEN.items():
                with faults.frozen(part, *served):
                    wait_until("it was frozen long enough", over(FROZEN_SECONDS), FROZEN_SECONDS + 5)
                faults.steady()
            with faults.full("query"):
                faults.steady()
            faults.steady()
        wait_until("all is healthy at the end", made.healthy, 60)
    told = load.table()
    print(f"\n{told}")  # noqa: T201 - what pytest -s is for
    for name in OURS:
        assert load.seen(name, "unavailable"), f"no fault of the database was seen at {name}\n{told}"
    for name in ("supabase", "legacy"):
        assert load.seen(name, "away"), f"{name} was never away\n{told}"
    for name, counts in load.counts.items():
        assert not sum(counts[kind] for kind in MISTAKES), (
            f"{name} has answered with a mistake of its own\n{told}"
        )
        unhandled = sum(counts[kind] for kind in UNHANDLED)
        assert unhandled < counts.total() / 100, f"{name}: {unhandled} of {counts.total()}\n{told}"
    for name in OURS:
        measured = httpx.get(f"{address(made, name)}/metrics/performance", timeout=10).json()["requests"]
        assert measured["unhandled_errors"] < measured["total"] / 100, (name, measured)
