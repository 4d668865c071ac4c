"""How long the query service takes at a steady rate, and what an idle poll costs: real PostgreSQL, real service.

Every request goes out on its own schedule, whatever became of those before it, so that a slow answer delays no other
(no coordinated omission). Times are from the scheduled start to the whole answer, in milliseconds; CPU is the
service's own for each request, which a busy machine changes little.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import query_history
from programs import ROOT

from embedded.keys import load_or_create
from embedded.migrations import apply_migrations
from embedded.postgres import Postgres
from monitoring.events import metric_type_of, to_json
from tests.fakes.event_factory import run
from tests.query_process import QueryProcess

STREAMS, EVENTS = 40, 500
SLOWER = {"percentiles, 5 days": 0.1, "availability, 1 day": 0.1, "top of all": 0.005}
"""What is asked less often than the rest, being work for the database each time; the share of the rate."""


async def fill(postgres: Postgres) -> None:
    """Apply the migrations, and write 40 streams of 500 events."""
    connection = await asyncpg.connect(postgres.dsn())
    await apply_migrations(connection, ROOT / "supabase" / "migrations")
    owner = str(uuid.uuid4())
    for number in range(STREAMS):
        stream = f"dev-{number}/system"
        await connection.fetchval("select cf_acquire_lease($1, $2, 1)", stream, owner)
        rows = [
            {**to_json(event), "metric_type": metric_type_of(event.stream)} for event in run(stream, EVENTS)
        ]
        await connection.fetchval("select cf_append($1, $2)", owner, json.dumps(rows))
    await connection.execute("analyze")
    await connection.close()


async def fill_history(postgres: Postgres, samples: int, devices: int, raw_days: float) -> None:
    """Write the history, and say how much it is."""
    connection = await asyncpg.connect(postgres.dsn())
    began = time.perf_counter()
    rows = await query_history.write(connection, samples, devices, timedelta(days=raw_days))
    size = await connection.fetchval("select cf_used_bytes()")
    days = query_history.span(samples, devices) / timedelta(days=1)
    print(
        f"history: {samples:,} samples of {devices} devices over {days:.1f} days, {rows:,} of them as rows, "
        f"{size / 1e9:.1f} GB, written in {time.perf_counter() - began:.0f} s; load {os.getloadavg()[0]:.1f}"
    )
    await connection.close()


async def measure(
    ask: Callable[[], Awaitable[httpx.Response]], rate: float, seconds: float
) -> tuple[list[float], int]:
    """Ask at a rate; return how long each answer took, sorted, and how many were refused because it was too much."""
    begin = time.perf_counter() + 0.1
    refused = 0

    async def one(number: int) -> float:
        nonlocal refused
        due = begin + number / rate
        await asyncio.sleep(max(0, due - time.perf_counter()))
        response = await ask()
        assert response.status_code in {200, 304, 429, 503}, response.text
        refused += response.status_code in {429, 503}
        return (time.perf_counter() - due) * 1000

    return sorted(await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))), refused


def of_history(http: httpx.AsyncClient, devices: int) -> dict[str, Callable[[], Awaitable[httpx.Response]]]:
    """Return what people ask of a long history, each time of another device, as dashboards do."""
    number = itertools.count()

    def ask(path: str, hours: float, **query: Any) -> Callable[[], Awaitable[httpx.Response]]:
        def one() -> Awaitable[httpx.Response]:
            device = next(number) % devices + 1
            until = datetime.now(UTC) - timedelta(hours=3)
            named = {name: str(value).format(device=device) for name, value in query.items()}
            times = {"from": (until - timedelta(hours=hours)).isoformat(), "to": until.isoformat()}
            return http.get(path, params=named | times)

        return one

    stream: dict[str, Any] = {"stream": "host-{device}/system", "field": "cpu_usage"}
    counter = stream | {"field": "rx_bytes"}
    return {
        "series, 15 minutes, raw": ask("/api/series", 0.25, **stream),
        "series, 5 days": ask("/api/series", 120, **stream),
        "rates, 1 day": ask("/api/analytics/rates", 24, **counter),
        "percentiles, 1 hour, raw": ask("/api/analytics/percentiles", 1, **stream),
        "percentiles, 5 days": ask("/api/analytics/percentiles", 120, **stream),
        "availability, 1 day": ask("/api/analytics/availability", 24, device="host-{device}"),
        "devices, 100": lambda: http.get("/api/devices"),
        "events of a device, 100": lambda: http.get(
            "/api/events", params={"device": f"dev-{next(number) % STREAMS}"}
        ),
        "events of all, 100": lambda: http.get("/api/events"),
        "dashboard": lambda: http.get("/monitoring/dashboard"),
    }


async def table(query: QueryProcess, token: str, rate: float, seconds: float, devices: int) -> None:
    """Print one row an operation, and one of all of them together when there is history."""
    limits = httpx.Limits(max_connections=100)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=query.url, headers=headers, limits=limits, timeout=30) as http:
        tag = {"If-None-Match": (await http.get("/api/heads")).headers["etag"]}
        clients = {"clients": [f"web-{number}" for number in range(500)]}
        routes = {"If-None-Match": (await http.post("/api/routes", json=clients)).headers["etag"]}
        cursor = {f"dev-{number}/system": [1, EVENTS - 5] for number in range(STREAMS)}
        context = {"context": {"targetingKey": "web-1"}}
        rows: dict[str, Callable[[], Awaitable[httpx.Response]]] = {
            "idle poll: heads of 40 streams, 304": lambda: http.get("/api/heads", headers=tag),
            "heads of 40 streams": lambda: http.get("/api/heads"),
            "snapshot of 40 streams": lambda: http.get("/api/snapshot"),
            "200 events missed": lambda: http.post(
                "/api/events/after", json={"cursor": cursor, "limit": 200}
            ),
            "one flag by OFREP": lambda: http.post("/ofrep/v1/evaluate/flags/live", json=context),
            "routes of 500 clients, 304": lambda: http.post("/api/routes", json=clients, headers=routes),
        }
        if devices:
            asked = of_history(http, devices)
            mixed = itertools.cycle([*asked.values(), rows["idle poll: heads of 40 streams, 304"]])
            rows |= asked

            async def in_turn() -> httpx.Response:
                return await next(mixed)()

            rows["all of history, and idle polls, in turn"] = in_turn
            rows["top of all"] = lambda: http.get("/api/analytics/top", params={"field": "cpu_usage"})
        assert query.process is not None
        service = psutil.Process(query.process.pid)
        print(f"{'':38}{'bytes':>8}{'mean':>8}{'p50':>8}{'p99':>8}{'worst':>8}{'CPU ms':>8}   at {rate:g}/s")
        for name, ask in rows.items():
            size = len((await ask()).content)
            before = service.cpu_times()
            took, refused = await measure(ask, SLOWER.get(name, 1) * rate, seconds)
            after = service.cpu_times()
            busy = (after.user + after.system - before.user - before.system) / len(took) * 1000
            at = [sum(took) / len(took), took[len(took) // 2], took[int(len(took) * 0.99)], took[-1]]
            said = f"   at {SLOWER[name] * rate:g}/s" if name in SLOWER else ""
            said += f"   {refused} of {len(took)} refused" if refused else ""
            print(
                f"{name:38}{size:8,}" + "".join(f"{each:8.1f}" for each in at) + f"{busy:8.2f}{said}",
                flush=True,
            )
        print(f"resident: {service.memory_info().rss / 1e6:.0f} MB")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--samples", type=int, default=0, help="history to be there, for example 50000000")
    parser.add_argument("--devices", type=int, default=500, help="of which the samples are, one every 5 s")
    parser.add_argument(
        "--raw-days", type=float, default=3650, help="of the samples, those of so many days are there as rows"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        postgres = Postgres(Path(directory) / "data", port=0)
        postgres.prepare()
        postgres.start()
        try:
            asyncio.run(fill(postgres))
            if given.samples:
                asyncio.run(fill_history(postgres, given.samples, given.devices, given.raw_days))
            flags = Path(directory) / "flags.yaml"
            flags.write_text((ROOT / "flags.yaml").read_text())
            query = QueryProcess(postgres.data_dir, postgres.dsn("authenticator"), flags)
            token = load_or_create(postgres.data_dir / "supabase").service_role_key
            devices = given.devices if given.samples else 0
            try:
                asyncio.run(table(query, token, given.rate, given.seconds, devices))
            finally:
                query.stop()
        finally:
            postgres.stop()
            postgres.remove()


if __name__ == "__main__":
    main()
