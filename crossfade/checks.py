"""Checks: is each part well? Each is made by doing: connecting, asking, reading what was written last."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import asyncpg
import httpx

from adapters.flag_file import FlagFile
from crossfade.addresses import reachable
from crossfade.errors import CrossfadeError
from crossfade.paths import read_json
from crossfade.plan import PARTS, Addresses, flags_file, known_addresses, running_state
from crossfade.supervisor import probes
from crossfade.supervisor.model import State
from crossfade.wiring import embedded_keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from crossfade.paths import DataDir
    from crossfade.settings import Settings

_DEADLINE_SECONDS = 5.0
_FRESH_SECONDS = 10.0
"""A status file that is older was written by something that hangs."""
_UNAUTHORIZED = (401, 403)
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``advice`` says what to do when it is not ``ok``; a ``note`` is no failure."""

    name: str
    ok: bool
    detail: str
    address: str = ""
    advice: str = ""
    note: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON."""
        return asdict(self)


class Unwell(CrossfadeError):  # noqa: N818 - a finding rather than an error
    """A part does not do its work; the message says what was seen."""


async def check_parts(data: DataDir, settings: Settings) -> list[Check]:
    """Check every part that runs, all at once; one failed check when nothing does."""
    state = running_state(data)
    if state is None:
        detail = f"nothing runs on {data.root}"
        return [Check("crossfade", ok=False, detail=detail, advice="start it with crossfade up")]
    addresses = known_addresses(data, settings)
    told = {str(part.get("name")): part for part in state.get("parts", [])}
    tests = {**_tests(data, addresses), **(_hosted_tests(settings) if state.get("hosted") else {})}
    names = [
        name for name in (*PARTS, "supabase", "database") if name in told or name in _hosted_names(state)
    ]
    checks = [_one(name, told.get(name), tests.get(name), addresses.shown(name)) for name in names]
    flags = FlagFile(flags_file(data, settings))
    found = list(await asyncio.gather(*checks))
    if not told:
        found.append(
            Check("crossfade", ok=False, detail="it is just starting", advice="ask again in a moment")
        )
    flags.refresh()
    problem = flags.problem()
    found.append(
        Check(
            "flags",
            problem is None,
            problem or "good",
            str(flags.path),
            "correct the file" if problem else "",
        )
    )
    return found


def _hosted_names(state: Mapping[str, Any]) -> tuple[str, ...]:
    return ("supabase", "database") if state.get("hosted") else ()


async def _one(
    name: str, told: Mapping[str, Any] | None, test: Callable[[], Awaitable[str]] | None, address: str
) -> Check:
    if told is not None and told.get("state") != State.READY:
        detail = f"{told.get('state')}: {told.get('detail') or told.get('last_line') or 'no word'}"
        return Check(name, ok=False, detail=detail, address=address, advice=f"see {told.get('log')}")
    if test is None:
        return Check(name, ok=True, detail=str(told.get("detail", "")) if told else "", address=address)
    advice = f"see {told.get('log')}" if told else "check the settings"
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            detail = await test()
    except TimeoutError:
        return Check(
            name, ok=False, detail=f"no answer in {_DEADLINE_SECONDS:g} s", address=address, advice=advice
        )
    except Exception as error:  # noqa: BLE001 - drivers raise what they like; each failure is a finding
        reason = " ".join(str(error).split()) or type(error).__name__
        return Check(name, ok=False, detail=reason, address=address, advice=advice)
    restarts = int(told.get("restarts", 0)) if told else 0
    more = f", restarted {restarts} times" if restarts else ""
    return Check(name, ok=True, detail=detail + more, address=address)


def _tests(data: DataDir, at: Addresses) -> dict[str, Callable[[], Awaitable[str]]]:
    host = reachable(at.host)

    async def postgres() -> str:
        password = quote(embedded_keys(data).db_password)
        return await query(f"postgresql://postgres:{password}@{at.near}:{at.port_database}/postgres")

    async def realtime() -> str:
        await probes.http(host, at.port_supabase, "/health")()
        return "answers, feed live"

    async def legacy() -> str:
        await probes.http(host, at.port_legacy, "/health")()
        return "answers"

    async def dashboard() -> str:
        await probes.http(host, at.port_dashboard, "/_stcore/health")()
        return "answers"

    async def collect() -> str:
        return _collected(_fresh(data.run / "collect.json"))

    async def parity() -> str:
        return _compared(_fresh(data.parity))

    return {
        "postgres": postgres,
        "realtime": realtime,
        "legacy": legacy,
        "dashboard": dashboard,
        "collect": collect,
        "parity": parity,
    }


def _hosted_tests(settings: Settings) -> dict[str, Callable[[], Awaitable[str]]]:
    async def supabase() -> str:
        key = settings.supabase_key.get_secret_value() if settings.supabase_key else ""
        return await ask_rest(settings.supabase_url or "", key)

    async def database() -> str:
        return await query(settings.database_url.get_secret_value() if settings.database_url else "")

    return {"supabase": supabase, "database": database}


async def query(url: str) -> str:
    """Connect to a database and ask for its version; raises what the driver raises, without the password."""
    connection = await asyncpg.connect(url, timeout=_DEADLINE_SECONDS)
    try:
        version = await connection.fetchval("show server_version")
    finally:
        await connection.close()
    return f"PostgreSQL {version}"


async def ask_rest(url: str, key: str) -> str:
    """Ask a Supabase's REST endpoint with a key; raises Unwell when it refuses the key or does not work."""
    async with httpx.AsyncClient(timeout=_DEADLINE_SECONDS) as client:
        response = await client.get(
            f"{url}/rest/v1/cf_stream_heads?limit=1",
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
        )
    if response.status_code in _UNAUTHORIZED:
        raise Unwell(f"{url} refuses the key (HTTP {response.status_code}); correct SUPABASE_KEY")
    if response.status_code >= _SERVER_ERROR:
        raise Unwell(f"{url} answers HTTP {response.status_code}")
    return "answers"


def _fresh(path: Path) -> dict[str, Any]:
    report = read_json(path)
    if report is None:
        raise Unwell(f"{path} is not written yet")
    age = time.time() - path.stat().st_mtime
    if age > _FRESH_SECONDS:
        raise Unwell(f"{path} was last written {age:.0f} s ago")
    return report


def _collected(report: Mapping[str, Any]) -> str:
    paths: Mapping[str, Mapping[str, Any]] = report.get("paths", {})
    down = [name for name, path in paths.items() if path.get("enabled") and not path.get("connected", True)]
    if down:
        raise Unwell(f"not connected to {' and '.join(down)}; events are kept on the spool")
    if report.get("spool", {}).get("last_error"):
        raise Unwell(str(report["spool"]["last_error"]))
    streams: Mapping[str, Mapping[str, Any]] = report.get("streams", {})
    if not streams:
        raise Unwell(str(report.get("detail", "no stream is open")))
    events = sum(int(stream.get("events", 0)) for stream in streams.values())
    return f"{events} events of {len(streams)} streams"


def _compared(report: Mapping[str, Any]) -> str:
    if report.get("state") != "comparing":
        raise Unwell("waiting for both backends to be live")
    down = [side for side, live in report.get("live", {}).items() if not live]
    if down:
        raise Unwell(f"{' and '.join(down)} not live")
    # Findings are the comparison's result, not its health: it does its work when it finds something.
    counts = [
        f"{count} {name.replace('_', ' ')}" for name, count in report.get("counts", {}).items() if count
    ]
    minutes = float(report.get("window_seconds", 600)) / 60
    return f"{', '.join(counts) or 'nothing decided'} in the last {minutes:g} minutes"
