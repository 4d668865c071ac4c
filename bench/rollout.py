"""A rollout by itself, over the real backends: to everybody, and back by itself when the new path loses events or dies.

    python bench/rollout.py [--clients N] [--rate N] [--mode changes|broadcast] [--default-gates] [--json FILE]

Nobody touches anything but to start it, to do the damage and to acknowledge it. In turn: from shadow to 100 % with an
accelerated dwell; then 1 % of the rows are lost on the Supabase side (a trigger in the database: heads go on, rows do not);
then, after an acknowledgement and another rollout to 100 %, Supabase freezes altogether (SIGSTOP of Realtime and
PostgreSQL). Every client's every stream is checked for holes and doubles as it comes in, and at the end against the
spool's heads. Exit code 1 when a client lost anything or got it twice, or the rollout did not do what it should.

With ``--default-gates`` it goes forward alone, by the gates and the ladder that `crossfade rollout start` has by itself; only
time is compressed, by the dwell (ten seconds) and the length of a block (half a second). The first step's evidence rests on one
client in a hundred, so it wants many of them: with ``--clients 1000`` these ten show 3,742 clean blocks in some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from handover import PARTS, Bench, Installation, bench, database_url
from programs import ROOT, machine

from adapters.rollout_journal import Journal
from crossfade.paths import read_json
from tests.e2e.installation import clean_environment

ALL = (*PARTS, "parity", "rollout")
BLOCK_SECONDS = 1.0
START = (
    "--ladder", "5,25,50,100", "--dwell", "5s", "--max-disturbed", "0.02", "--latency-budget", "2",
)  # fmt: skip
DEFAULT_START = ("--dwell", "10s")
DEFAULT_BLOCK_SECONDS = 0.5
FORWARD_SECONDS = 1800.0
"""Gates wait for evidence, and evidence for what else the machine does; a latch ends the wait at once."""
BACK_SECONDS = 90.0
LATCH_SECONDS = 15.0
"""How long the latch is watched."""

LOSE = """
create function public.bench_lose() returns trigger language plpgsql as $$
begin
  return case when random() < 0.01 then null else new end;
end $$;
create trigger bench_lose before insert on public.cf_events for each row execute function public.bench_lose();
"""
STOP_LOSING = "drop trigger bench_lose on public.cf_events; drop function public.bench_lose();"


async def command(made: Installation, *words: str) -> str:
    """Run a command of ours on the installation; raises RuntimeError when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crossfade", *words, "--data-dir", str(made.data.root)),
        cwd=made.directory,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"crossfade {' '.join(words)}: {out.decode()}")
    return out.decode()


async def until(condition: Callable[[], bool], seconds: float) -> float | None:
    """Wait for a condition; return after how many seconds, None when it did not come true in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return None
        await asyncio.sleep(0.05)
    return round(time.monotonic() - began, 2)


class Watched:
    """A rollout that is looked at from outside: its journal, and where the clients are."""

    def __init__(self, running: Bench) -> None:
        self.running = running
        self.journal = Journal(running.installation.data.rollout_journal)

    def on(self, backend: str) -> int:
        return sum(group.on.get(backend, 0) for group in self.running.groups)

    def at_the_end(self) -> bool:
        extent = self.journal.read().state.cohorts["default"].extent
        return str(extent) == "live 100 %" and self.on("supabase") == self.running.total

    def latch(self) -> str:
        return self.journal.read().state.cohorts["default"].latch

    def steps(self) -> Iterator[str]:
        for entry in self.journal.entries():
            yield f"{entry['at'][11:19]} {entry['action']} {entry['before']} -> {entry['after']}: {entry['reason']}"

    async def forward(self) -> dict[str, Any]:
        seconds = await until(lambda: self.at_the_end() or bool(self.latch()), FORWARD_SECONDS)
        if seconds is None or not self.at_the_end():
            report = read_json(self.running.installation.data.rollout) or {}
            raise RuntimeError(f"held at {json.dumps(report.get('cohorts'))}; {list(self.steps())}")
        return {"part": "forward", "ok": True, "seconds": seconds}

    async def back(self, part: str) -> dict[str, Any]:
        """Wait for the trip and for the clients, and watch the latch."""
        began = time.monotonic()
        tripped = await until(lambda: bool(self.latch()), BACK_SECONDS)
        home = await until(lambda: self.on("legacy") == self.running.total, BACK_SECONDS)
        whole = round(time.monotonic() - began, 2)
        number = self.journal.read().number
        await asyncio.sleep(LATCH_SECONDS)
        held = self.journal.read().number == number and self.on("legacy") == self.running.total
        return {
            "part": part,
            "ok": tripped is not None and home is not None and held,
            "tripped_after_seconds": tripped,
            "all_back_after_seconds": whole if home is not None else None,
            "reason": self.latch(),
            "latch_held": held,
        }


@contextlib.contextmanager
def frozen(made: Installation) -> Iterator[None]:
    """Stop Supabase where it stands: Realtime and every process of PostgreSQL."""
    stopped = []
    for name in ("realtime", "postgres"):
        process = psutil.Process(made.parts()[name]["pid"])
        stopped += [process, *process.children(recursive=True)]
    for each in stopped:
        each.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)


Part = dict[str, Any]


async def there_and_back(running: Bench, watched: Watched, minutes_dead: float) -> AsyncIterator[Part]:
    """Forward with an accelerated dwell; back for what is lost; forward again; back for a Supabase that is dead."""
    made = running.installation
    await command(made, "rollout", "start", *START)
    made.move(100)  # only now: without a rollout the file alone would move everybody at once
    yield await watched.forward()
    database = await asyncpg.connect(database_url(made))
    await database.execute(LOSE)
    yield await watched.back("1 % lost on the Supabase side")
    await database.execute(STOP_LOSING)
    await database.close()
    await command(made, "rollout", "resume", "--ack")
    yield await watched.forward()
    with frozen(made):
        yield await watched.back("Supabase frozen")
        await asyncio.sleep(minutes_dead * 60)
    await made.healthy(120)


async def by_default_gates(running: Bench, watched: Watched, _: float) -> AsyncIterator[Part]:
    """Forward alone, by the gates that everybody has who asks for nothing else."""
    made = running.installation
    await command(made, "rollout", "start", *DEFAULT_START)
    made.move(100)
    found = await watched.forward()
    entries = [entry for entry in watched.journal.entries() if entry["action"] == "advance"]
    evidence = {
        entry["after"]: {gate["name"]: f"{gate['answer']}: {gate['reason']}" for gate in entry["gates"]}
        for entry in entries
    }
    yield {**found, "evidence": evidence}


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    scenario = by_default_gates if given.default_gates else there_and_back
    block = DEFAULT_BLOCK_SECONDS if given.default_gates else BLOCK_SECONDS
    os.environ["CROSSFADE_ROLLOUT_BLOCK_SECONDS"] = str(block)
    parts: list[Part] = []
    async with bench(given.clients, given.mode, ALL) as running:
        watched = Watched(running)
        running.writer.tell(f"rate {given.rate:g}")
        began = time.monotonic()
        async for part in scenario(running, watched, given.minutes_dead):
            parts.append(part)
            print(json.dumps({**part, "load": os.getloadavg()[0]}), flush=True)
        lasted = time.monotonic() - began
        results = await running.finish()
        lost = sum(result["faults"] + result["missing"] for result in results)
        gaps = sum(result["gaps"] for result in results)
        return {
            "clients": running.total,
            "rate": given.rate,
            "mode": given.mode or "changes",
            "seconds": round(lasted, 1),
            "parts": parts,
            "events": sum(result["events"] for result in results),
            "lost_or_twice": lost,
            "gaps": gaps,
            "findings": [finding for result in results for finding in result["findings"]][:10],
            "moves": sum(len(result["moves"]) for result in results),
            "journal": list(watched.steps()),
            "ok": not lost and not gaps and all(part["ok"] for part in parts),
            "machine": machine(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--mode", choices=("changes", "broadcast"))
    parser.add_argument(
        "--minutes-dead", type=float, default=0.0, help="how much longer Supabase stays frozen"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--default-gates", action="store_true", help="forward alone, by the default gates")
    given = parser.parse_args()
    result = asyncio.run(measure(given))
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    main()
