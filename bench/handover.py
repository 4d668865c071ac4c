"""Connected clients moved between backends while everything is killed, and how long a thousand of them take.

    python bench/handover.py storm [--minutes N] [--clients N] [--rate N] [--mode changes|broadcast] [--json FILE]
    python bench/handover.py thousand [--clients N] [--rate N] [--mode ...] [--json FILE]

``storm``: clients of two streams each over 20 streams; all are moved legacy -> supabase -> legacy six times by edits
of a real flags.yaml, while PostgreSQL, Realtime and the legacy server are each killed (-9) twice, in the middle of
moves and between them. ``thousand``: one edit there and one back, and how long until the last client has moved.

Everything is real: `crossfade up`, a spool with its forwarders, routers over real adapters in two processes. Every
client's every stream is checked for holes and doubles as it comes in, and at the end against the spool's heads. Beside
them one plain client closes one backend and opens the other. Exit code 1 when one of ours lost anything or got it
twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from programs import HERE, ROOT, Program, machine, program

from adapters import flag_file
from crossfade.paths import DataDir, read_json
from crossfade.plan import running_state
from monitoring.flags.editing import edit
from tests.e2e.installation import clean_environment

DEVICES = 10
CATEGORIES = ("system", "containers")
PROCESSES = 2
ROUND_TRIPS = 6
PARTS = ("postgres", "migrations", "realtime", "legacy")
LATE = {"parity"}
"""Parts that wait for the spool, which the writer makes."""
KILLS = ("legacy", "realtime", "postgres")
MOVED_SECONDS = 120.0
"""How long all clients may take to move before the measurement goes on without them."""


class Installation:
    """`crossfade up` on a directory of its own, and what is done to it."""

    def __init__(self, directory: Path, wanted: Sequence[str] = PARTS) -> None:
        self.directory = directory
        self.wanted = frozenset(wanted)
        self.data = DataDir.of(directory / ".crossfade")
        self.errors = directory / "errors.log"

    def parts(self) -> dict[str, dict[str, Any]]:
        state = running_state(self.data) or {}
        return {part["name"]: part for part in state.get("parts", [])}

    async def healthy(self, seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while True:
                parts = self.parts()
                if parts.keys() >= self.wanted and all(
                    part["state"] in {"ready", "done"} for name, part in parts.items() if name not in LATE
                ):
                    return
                await asyncio.sleep(0.05)

    def kill(self, name: str) -> None:
        """Kill -9; the supervisor starts it again. PostgreSQL with all its processes, its postmaster first."""
        process = psutil.Process(self.parts()[name]["pid"])
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def cpu_seconds(self) -> dict[str, float]:
        """Return what each part has used since it was started, its processes together."""
        used = {}
        for name, part in self.parts().items():
            if part["pid"] is None:
                continue
            process = psutil.Process(part["pid"])
            times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
            used[name] = sum(each.user + each.system for each in times)
        return used

    def move(self, percent: int) -> float:
        """Edit the flag file; return when."""
        path = self.data.root / "flags.yaml"
        text = flag_file.read(path)
        at = time.monotonic()
        flag_file.write(path, edit(text, "live.percent", str(percent)), expected=text)
        return at

    def address(self, name: str) -> Any:
        return (read_json(self.data.state) or {})["addresses"][name]


@contextlib.asynccontextmanager
async def installation(
    mode: str | None, wanted: Sequence[str] = PARTS, *options: str
) -> AsyncIterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix="cf-handover-"))
    made = Installation(directory, wanted)
    ports = [
        word
        for part in ("supabase", "database", "query", "legacy", "dashboard")
        for word in (f"--port-{part}", "0")
    ]
    environment = clean_environment(**({} if mode is None else {"CROSSFADE_REALTIME_MODE": mode}))
    try:
        with (directory / "up.log").open("w") as log:
            up = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "crossfade", "up", "--only", ",".join(wanted), *ports, *options),
                cwd=directory, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            await made.healthy()
            yield made
        finally:
            with contextlib.suppress(ProcessLookupError):
                up.send_signal(signal.SIGINT)
            await up.wait()
    finally:
        location = made.data.supabase / "location.json"
        if location.exists():  # as root the cluster is elsewhere
            shutil.rmtree(json.loads(location.read_text())["cluster"], ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(slots=True)
class Clients:
    """A process of clients."""

    running: Program
    on: dict[str, int] = field(default_factory=dict)
    moves: int = 0
    last_move: float = 0.0
    result: dict[str, Any] | None = None

    async def listen(self) -> None:
        while self.result is None:
            said = json.loads(await self.running.line(120))
            if "result" in said:
                self.result = said["result"]
            else:
                self.on, self.moves, self.last_move = said["on"], said["moves"], said["last_move"]


@dataclass(slots=True)
class Move:
    """One edit of the flags, and what followed."""

    to: str
    at: float
    seconds: float | None = None
    """Until the last client had moved; None when some had not within the time."""


class Bench:
    """An installation with a writer and clients."""

    def __init__(self, made: Installation, writer: Program, groups: Sequence[Clients], total: int) -> None:
        self.installation = made
        self.writer = writer
        self.groups = groups
        self.total = total
        self.moves: list[Move] = []

    async def move(self, to: str, wait_seconds: float) -> None:
        """Have all clients move, and wait until they have, for so long at most."""
        move = Move(to, self.installation.move(100 if to == "supabase" else 0))
        self.moves.append(move)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                while sum(group.on.get(to, 0) for group in self.groups) < self.total:
                    await asyncio.sleep(0.05)
                last = max(group.last_move for group in self.groups)
                move.seconds = max(0.0, last - move.at)  # 0: they had never left

    async def finish(self) -> list[dict[str, Any]]:
        """Stop writing, let every client reach the heads, and return what each process saw."""
        self.writer.tell("drain")
        heads = await self.writer.line(120)
        for group in self.groups:
            group.running.tell(f"finish {heads}")
        async with asyncio.timeout(180):
            while any(group.result is None for group in self.groups):
                await asyncio.sleep(0.1)
        return [group.result for group in self.groups if group.result is not None]


@contextlib.asynccontextmanager
async def bench(clients: int, mode: str | None, names: Sequence[str] = PARTS) -> AsyncIterator[Bench]:
    """Yield everything running, all clients live on the legacy server."""
    streams = [f"bench-{device}/{category}" for device in range(DEVICES) for category in CATEGORIES]
    async with contextlib.AsyncExitStack() as stack:
        made = await stack.enter_async_context(installation(mode, names))
        host, port = made.address("host"), made.address("port_legacy")
        database = made.data
        argv: list[str | Path] = [
            HERE / "event_writer.py",
            "--spool",
            database.spool,
            "--streams",
            ",".join(streams),
        ]
        argv += ["--legacy-url", f"ws://{host}:{port}/link", "--token-file", database.link_token]
        url = database_url(made)
        writer = await stack.enter_async_context(program(made.errors, *argv, DATABASE_URL=url))
        if (said := await writer.line(60)) != "ready":
            raise RuntimeError(f"the writer said {said!r}")
        groups = []
        each = clients // PROCESSES
        for number in range(PROCESSES):
            options: list[str | Path] = ["--data-dir", made.data.root, "--first", str(number * each)]
            options += ["--count", str(each), "--devices", str(DEVICES)]
            running = await stack.enter_async_context(
                program(made.errors, HERE / "handover_client.py", *options)
            )
            groups.append(Clients(running))
        for group in groups:
            if (said := await group.running.line(120)) != "live":
                raise RuntimeError(f"the clients said {said!r}")
        listening = [asyncio.ensure_future(group.listen()) for group in groups]
        try:
            yield Bench(made, writer, groups, each * PROCESSES)
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)


def database_url(made: Installation) -> str:
    """Return how the product's own writer is told to connect."""
    from embedded.postgres import Postgres  # noqa: PLC0415 - only here

    return Postgres(made.data.root, port=made.address("port_database")).dsn()


# -- the measurements


async def storm(
    minutes: float, round_trips: int, clients: int, rate: float, mode: str | None
) -> dict[str, Any]:
    """Move everybody to and fro while everything is killed."""
    async with bench(clients, mode) as running, contextlib.AsyncExitStack() as stack:
        made = running.installation
        plain = await stack.enter_async_context(
            program(
                made.errors, HERE / "handover_plain.py", "--data-dir", made.data.root, "--device", "bench-0"
            )
        )
        running.writer.tell(f"rate {rate:g}")
        period = minutes * 60 / (2 * round_trips + 1)
        kills: list[tuple[float, str]] = []
        busy, began = _busy(), time.monotonic()
        await asyncio.sleep(period)
        for number in range(2 * round_trips):
            begun = time.monotonic()
            killing = None
            if number % 2 == 1:
                # Each part once while clients move, and once when they have moved.
                late = number // 2 >= len(KILLS)
                victim = KILLS[number // 2 % len(KILLS)]
                killing = asyncio.ensure_future(_kill(made, victim, period / 2 if late else 0.3, kills))
            await running.move("supabase" if number % 2 == 0 else "legacy", period)
            if killing is not None:
                await killing
            await asyncio.sleep(max(0.0, begun + period - time.monotonic()))
        lasted = time.monotonic() - began
        cores = (_busy() - busy) / lasted
        writer_cpu = running.writer.cpu_seconds()
        plain.hang_up()
        beside = json.loads(await plain.line())
        results = await running.finish()
        return {
            "part": "storm",
            "minutes": round(lasted / 60, 2),
            "clients": running.total,
            "streams": DEVICES * len(CATEGORIES),
            "rate": rate,
            "mode": mode or "changes",
            "kills": [[round(at - began, 1), name] for at, name in kills],
            "flag_edits": [
                [round(move.at - began, 1), move.to, _rounded(move.seconds)] for move in running.moves
            ],
            **_summary(results, began, lasted),
            "plain": beside,
            "cores_busy": round(cores, 2),
            "writer_cpu_seconds": round(writer_cpu, 1),
            "machine": machine(),
        }


async def _kill(made: Installation, name: str, after: float, kills: list[tuple[float, str]]) -> None:
    await asyncio.sleep(after)
    kills.append((time.monotonic(), name))
    made.kill(name)


async def thousand(clients: int, rate: float, mode: str | None) -> dict[str, Any]:
    """Move everybody once there and once back."""
    async with bench(clients, mode) as running:
        running.writer.tell(f"rate {rate:g}")
        busy, began = _busy(), time.monotonic()
        await asyncio.sleep(3)
        before = running.installation.cpu_seconds()
        await running.move("supabase", MOVED_SECONDS)
        after = running.installation.cpu_seconds()
        await asyncio.sleep(3)
        await running.move("legacy", MOVED_SECONDS)
        await asyncio.sleep(3)
        lasted = time.monotonic() - began
        cores = (_busy() - busy) / lasted
        results = await running.finish()
        return {
            "part": "thousand",
            "clients": running.total,
            "rate": rate,
            "mode": mode or "changes",
            "flag_edits": [
                [round(move.at - began, 1), move.to, _rounded(move.seconds)] for move in running.moves
            ],
            **_summary(results, began, lasted),
            "cpu_seconds_of_the_move_to_supabase": {
                name: round(after[name] - before.get(name, 0.0), 1) for name in after
            },
            "cores_busy": round(cores, 2),
            "machine": machine(),
        }


def _busy() -> float:
    """Return the seconds that all cores together were busy, with whatever, since the machine was started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - getattr(times, "guest", 0.0))


def _summary(results: list[dict[str, Any]], began: float, lasted: float) -> dict[str, Any]:
    """Return what all processes saw together."""
    moves = [move for result in results for move in result["moves"]]
    pauses = sorted((pause for result in results for pause in result["longest_pauses"]), reverse=True)
    lags = sorted(lag for result in results for lag in result["lags"])
    events = sum(result["events"] for result in results)
    return {
        "events": events,
        "per_second": round(events / lasted),
        "lost_or_twice": sum(result["faults"] for result in results),
        "missing_at_the_end": sum(result["missing"] for result in results),
        "gaps": sum(result["gaps"] for result in results),
        "findings": [finding for result in results for finding in result["findings"]][:10],
        "moves": len(moves),
        "moves_planned": sum(move["reason"].startswith("the flags") for move in moves),
        "move_seconds": _spread([move["seconds"] for move in moves]),
        "abandoned": sum(len(result["abandoned"]) for result in results),
        "abandoned_because": sorted({each["reason"] for result in results for each in result["abandoned"]})[
            :3
        ],
        "duplicates_dropped": sum(move["duplicates"] for move in moves),
        "longest_pause": {
            "seconds": round(pauses[0][0], 2),
            "ended_at": round(pauses[0][1] - began, 1),
            "client": pauses[0][2],
        },
        "longest_pause_per_client": _spread([pause[0] for pause in pauses]),
        "lag_seconds": _spread(lags),
        "client_cpu_seconds": [round(result["cpu_seconds"], 1) for result in results],
    }


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        "max": round(ordered[-1], 3),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=["storm", "thousand"])
    parser.add_argument("--minutes", type=float, default=10.0, help="of the storm (default: %(default)g)")
    parser.add_argument(
        "--round-trips", type=int, default=ROUND_TRIPS, help="there and back (default: %(default)d)"
    )
    parser.add_argument("--clients", type=int, help="default: 200 in the storm, else 1000")
    parser.add_argument(
        "--rate", type=float, help="events a second in all; default: 500 in the storm, else 20"
    )
    parser.add_argument("--mode", choices=["changes", "broadcast"], help="of Realtime (default: its own)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the result as a JSON line")
    parser.add_argument("--quick", action="store_true", help="half a minute, or 50 clients")
    arguments = parser.parse_args()
    if arguments.quick:
        small = (0.5, 20, 100.0) if arguments.part == "storm" else (0.0, 50, 20.0)
        arguments.minutes, arguments.clients, arguments.rate = small
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # what is started inherits it
    if arguments.part == "storm":
        measuring = storm(
            arguments.minutes,
            arguments.round_trips,
            arguments.clients or 200,
            arguments.rate or 500.0,
            arguments.mode,
        )
    else:
        measuring = thousand(arguments.clients or 1000, arguments.rate or 20.0, arguments.mode)
    outcome = asyncio.run(measuring)
    if arguments.json is not None:
        with arguments.json.open("a") as file:
            file.write(json.dumps(outcome) + "\n")
    for name, value in outcome.items():
        print(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")
    return int(bool(outcome["lost_or_twice"] or outcome["missing_at_the_end"] or outcome["gaps"]))


if __name__ == "__main__":
    sys.exit(main())
