"""Checks: is each part well? Each is made by doing: connecting, asking, reading what was written last."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import asyncpg
import httpx

from crossfade.addresses import reachable
from crossfade.errors import CrossfadeError
from crossfade.flag_summary import summarize
from crossfade.foreign import foreign_server
from crossfade.http_parts import HTTP_PARTS
from crossfade.paths import read_json
from crossfade.plan import PARTS, Addresses, flags_file, known_addresses, running_state
from crossfade.retention import shown
from crossfade.supervisor import probes
from crossfade.supervisor.model import State
from crossfade.wiring import embedded_keys, open_flags
from monitoring.topics import GLOBAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from adapters.flag_file import FlagFile
    from crossfade.foreign import ForeignServer
    from crossfade.paths import DataDir
    from crossfade.settings import Settings

_DEADLINE_SECONDS = 5.0
_FRESH_SECONDS = 10.0
"""A status file that is older was written by something that hangs."""
_UNAUTHORIZED = (401, 403)
_CLIENT_ERROR, _SERVER_ERROR = 400, 500  # RFC 9110, 15.5 and 15.6
_NO_RIGHT = "42501"  # PostgreSQL's insufficient_privilege
_TOKEN_OVER = "PGRST303"  # noqa: S105 - PostgREST's code for a token whose claims, as its end, do not hold
_LOST = (
    ("supabase", "tombstones", "events could not be stored in the database and are tombstones there"),
    ("supabase", "fenced_events", "events were given up, another collector had taken over their streams"),
    ("legacy", "unsendable_events", "events are larger than the legacy server takes and were not sent to it"),
)
"""What a path could not deliver: its name, its count, and what that means."""


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
        return [
            Check("crossfade", ok=False, detail=detail, advice=f"start it with crossfade up{data.option}")
        ]
    addresses = known_addresses(data, settings)
    told = {str(part.get("name")): part for part in state.get("parts", [])}
    tests = {**_tests(data, addresses), **(_hosted_tests(settings) if state.get("hosted") else {})}
    foreign = foreign_server(settings, data)
    names = [
        name
        for name in (*PARTS, "supabase", "database")
        if name in _hosted_names(state) or (name in told and told[name].get("state") != State.STOPPED)
    ]
    checks = [_one(name, told.get(name), tests.get(name), addresses.shown(name)) for name in names]
    if foreign is not None:
        checks.append(check_foreign(foreign))
    found = list(await asyncio.gather(*checks))
    if not told:
        found.append(
            Check("crossfade", ok=False, detail="it is just starting", advice="ask again in a moment")
        )
    flags = open_flags(data, flags_file(data, settings), settings.switches)
    found.append(await asyncio.to_thread(check_flags, flags))
    return found


async def check_foreign(foreign: ForeignServer) -> Check:
    """Connect to another's server, as its bridge and its clients do."""

    async def test() -> str:
        # Here, because most commands connect to none, and the client's library takes its time to import.
        from adapters.foreign_websocket import ForeignWebSocket  # noqa: PLC0415 - see above

        service = ForeignWebSocket(foreign.url, foreign.load(), open_seconds=_DEADLINE_SECONDS)
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS - 0.5), service.subscribe(frozenset({GLOBAL})) as it:
                await it.wait_live()
        except TimeoutError:
            raise Unwell((await service.health()).detail) from None
        finally:
            await service.close()
        return f"answers; another's server, dialect {Path(foreign.dialect).name}"

    found = await _one("legacy", None, test, foreign.shown)
    return found if found.ok else replace(found, advice="check CROSSFADE_LEGACY_URL and the server itself")


def check_flags(flags: FlagFile) -> Check:
    """Look at a flag file, and say what is in force."""
    current = flags.refresh()
    problem = flags.problem()
    if problem is None:
        return Check("flags", ok=True, detail=f"good: {summarize(current)}", address=str(flags.path))
    detail = f"{problem}: {summarize(current)}" if flags.has_good else problem
    return Check("flags", ok=False, detail=detail, address=str(flags.path), advice="correct the file")


def check_channels(told: Mapping[str, Any]) -> Check:
    """Say whether alerts reach anybody, of what `crossfade.alert_rules.document` tells; that they do not is a note."""
    name, file = "alert channels", str(told["file"])
    if told["problem"] is not None:
        return Check(name, ok=False, detail=str(told["problem"]), address=file, advice="correct the file")
    if channels := list(told["channels"]):
        return Check(name, ok=True, detail=f"alerts are told to {', '.join(channels)}", address=file)
    advice = f"name one in the channels of {file}, then try it with crossfade alerts notify-test"
    detail = "none is set: alerts can reach nobody"
    return Check(name, ok=False, detail=detail, address=file, advice=advice, note=True)


def _hosted_names(state: Mapping[str, Any]) -> tuple[str, ...]:
    return ("supabase", "database") if state.get("hosted") else ()


async def _one(
    name: str, told: Mapping[str, Any] | None, test: Callable[[], Awaitable[str]] | None, address: str
) -> Check:
    if told is not None and told.get("state") != State.READY:
        words = told.get("detail") or told.get("last_line")
        detail = f"{told.get('state')}: {words}" if words else str(told.get("state"))
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

    async def gateway() -> str:
        await probes.http(*at.gateway_place, "/health")()
        return "answers"

    async def dashboard() -> str:
        await probes.http(host, at.port_dashboard, "/_stcore/health")()
        return "answers"

    async def collect() -> str:
        return collected(_fresh(data.run / "collect.json"))

    async def parity() -> str:
        return _compared(_fresh(data.parity))

    async def bridge() -> str:
        return bridged(_fresh(data.bridge))

    async def rollout() -> str:
        return controlled(_fresh(data.rollout))

    return {
        "postgres": postgres,
        "realtime": realtime,
        **{name: partial(_service, host, at.port(name)) for name in HTTP_PARTS},
        "legacy": legacy,
        "gateway": gateway,
        "dashboard": dashboard,
        "collect": collect,
        "bridge": bridge,
        "parity": parity,
        "rollout": rollout,
    }


async def _service(host: str, port: int) -> str:
    await probes.http(host, port, "/ready")()
    return "answers, database there"


def _hosted_tests(settings: Settings) -> dict[str, Callable[[], Awaitable[str]]]:
    async def supabase() -> str:
        return await ask_hosted(settings)

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


async def ask_hosted(settings: Settings) -> str:
    """Ask the Supabase of the settings as its viewer; raises as `ask_rest` does."""
    key, token = settings.supabase_key, settings.access_token
    return await ask_rest(
        settings.supabase_url or "",
        key.get_secret_value() if key else "",
        token.get_secret_value() if token else None,
    )


async def ask_rest(url: str, key: str, token: str | None = None) -> str:
    """Ask a Supabase's REST endpoint with a key, for the viewer of a token if there is one.

    Raises Unwell when it refuses the key or the token, when they may not read, and when it does not work.
    """
    async with httpx.AsyncClient(timeout=_DEADLINE_SECONDS) as client:
        response = await client.get(
            f"{url}/rest/v1/cf_stream_heads?limit=1",
            headers={"apikey": key, "Authorization": f"Bearer {token or key}"},
        )
    if response.status_code >= _CLIENT_ERROR:
        raise Unwell(refusal(url, response, signed_in=token is not None))
    return "answers"


def refusal(url: str, response: httpx.Response, *, signed_in: bool) -> str:
    """Say why an answer is a refusal, and what to do."""
    try:
        answer = response.json()
    except ValueError:  # of a gateway in between
        answer = None
    code = str(answer.get("code", "")) if isinstance(answer, dict) else ""
    status = f"HTTP {response.status_code}{f', {code}' if code else ''}"
    if code == _NO_RIGHT:
        # The key was good enough to come that far: it is the role behind it that may not read.
        who, what = (
            ("the user of CROSSFADE_ACCESS_TOKEN", "give the user app_metadata.crossfade_role viewer")
            if signed_in
            else ("SUPABASE_KEY alone", "set CROSSFADE_ACCESS_TOKEN, or use a secret key")
        )
        return f"{url}: {who} may not read ({status}); {what}"
    if code == _TOKEN_OVER and signed_in:
        return f"{url}: CROSSFADE_ACCESS_TOKEN has expired ({status}); sign in again"
    if response.status_code in _UNAUTHORIZED:
        names = "SUPABASE_KEY or CROSSFADE_ACCESS_TOKEN" if signed_in else "SUPABASE_KEY"
        return (
            f"{url} refuses {'the key or the token' if signed_in else 'the key'} ({status}); correct {names}"
        )
    if response.status_code < _SERVER_ERROR:
        return f"{url} refuses the question ({status}); are supabase/migrations applied to this project?"
    return f"{url} answers {status}"


def _fresh(path: Path) -> dict[str, Any]:
    report = read_json(path)
    if report is None:
        raise Unwell(f"{path} is not written yet")
    age = time.time() - path.stat().st_mtime
    if age > _FRESH_SECONDS:
        raise Unwell(f"{path} was last written {age:.0f} s ago")
    return report


def collected(report: Mapping[str, Any]) -> str:
    """Return in a few words what the collector says it has done; raises Unwell when it does not do all of it."""
    paths: Mapping[str, Mapping[str, Any]] = report.get("paths", {})
    down = [name for name, path in paths.items() if path.get("enabled") and not path.get("connected", True)]
    if down:
        raise Unwell(f"not connected to {' and '.join(down)}; events are kept on the spool")
    lost = [
        f"{count} {meaning}"
        for path, name, meaning in _LOST
        if (count := int(paths.get(path, {}).get(name) or 0))
    ]
    if lost:
        raise Unwell("; ".join(lost))
    if holding := report.get("spool", {}).get("held_back"):
        raise Unwell(str(holding["detail"]))
    if failing := paths.get("supabase", {}).get("housekeeping_error"):
        raise Unwell(f"the database is not kept tidy: {failing}")
    if report.get("spool", {}).get("last_error"):
        raise Unwell(str(report["spool"]["last_error"]))
    if problem := report.get("checks", {}).get("problem"):
        raise Unwell(str(problem))
    streams: Mapping[str, Mapping[str, Any]] = report.get("streams", {})
    if not streams:
        raise Unwell(str(report.get("detail", "no stream is open")))
    events = sum(int(stream.get("events", 0)) for stream in streams.values())
    storage = paths.get("supabase", {}).get("storage")
    return f"{events} events of {len(streams)} streams" + (f"; {shown(storage)}" if storage else "")


def bridged(report: Mapping[str, Any]) -> str:
    """Return in a few words what the bridge says it has done; raises Unwell when it does not do all of it."""
    server, counts, database = (report.get(name, {}) for name in ("server", "bridge", "supabase"))
    if server.get("status") != "live":
        raise Unwell(f"the server is not followed: {server.get('detail')}")
    if not database.get("connected"):
        raise Unwell("not connected to supabase; events are kept on the spool")
    if counts.get("problem"):
        raise Unwell(f"{counts.get('waiting')} events wait: {counts['problem']}")
    if counts.get("refused"):
        raise Unwell(f"{counts['refused']} events were lost; each is told by a bridge_gap in its stream")
    lost = [
        f"{count} {meaning}"
        for path, name, meaning in _LOST
        if path == "supabase" and (count := database.get(name))
    ]
    if lost:
        raise Unwell("; ".join(lost))
    gaps = f", {counts['gaps']} gaps" if counts.get("gaps") else ""
    theirs = f", {counts['not_ours']} of another owner's streams left to it" if counts.get("not_ours") else ""
    return f"{counts.get('events', 0)} events of {len(report.get('streams', {}))} streams{gaps}{theirs}"


def controlled(report: Mapping[str, Any]) -> str:
    """Return in a few words where the rollout stands; raises Unwell when it cannot do its work, or was taken back."""
    if problem := report.get("problem") or report.get("database"):
        raise Unwell(str(problem))
    if report.get("unsafe"):
        raise Unwell(f"ROLLBACK UNSAFE: {report['unsafe']}")
    cohorts: Mapping[str, Mapping[str, Any]] = report.get("cohorts", {})
    if latched := [f"{name}: {each['latch']}" for name, each in cohorts.items() if each.get("latch")]:
        raise Unwell("; ".join(latched))
    if report.get("completed"):
        return "complete"
    if not report.get("active"):
        return "no rollout started"
    return "; ".join(f"{name} {each.get('ceiling')}: {each.get('held_by')}" for name, each in cohorts.items())


def _compared(report: Mapping[str, Any]) -> str:
    if report.get("state") == "idle":
        return str(report.get("reason", ""))
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
