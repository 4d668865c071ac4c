"""What Realtime loses, and what our client makes of it: a plain official client and ours, on the same rows.

    python bench/loss.py [--quick] [--only WORD ...] [--json FILE] [--mode changes|broadcast]
    python bench/loss.py --table FILE            (print the table of a JSON-lines file again)

The scenarios are a to h of the measurement of the real server (docs/delivery.md says how it was done). Rows are events
that the product's own spool and writer put into ``cf_events``. Each client is a process behind a TCP proxy of its own;
the gateway has the real server's habits. In ``broadcast`` mode the table is not in the publication, so the plain
client gets no row at all and only ours is worth reading. Exit code 1 when our client lost something, got something twice or out of
order.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import itertools
import json
import math
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from loss_ground import HABITS, STUCK, Client, Ground, Identity, ground
from programs import machine

KINDS = ("plain", "ours")
EDGE_SECONDS = 3.0
"""Rows that were begun so shortly before a client's end are not counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """How much of everything; seconds, unless it says rows."""

    lead: float = 8.0
    """Between a client's start and its fault."""
    after: float = 25.0
    """From a fault's end to the client's."""
    cut: float = 5.0
    stalls: tuple[float, ...] = (40.0, 90.0)
    away: tuple[float, ...] = (20.0, 60.0)
    life: float | None = 20.0
    """Of a token; None leaves those scenarios out."""
    runs: int = 2
    cold_runs: int = 3
    bursts: tuple[int, ...] = (20_000, 60_000)
    rates: tuple[int, ...] = (500, 1000, 2000)
    rate_for: float = 15.0
    quiet: float = 10.0
    """When nothing has arrived for so long after a load, all has: a transaction of 60,000 rows takes its time."""
    patience: float = 120.0


FULL = Extent()
QUICK = Extent(
    *(1.0, EDGE_SECONDS + 2.0, 1.0, (3.0,), (2.0,), None),
    *(1, 1, (2_000,), (500,), 2.0, 2.0, 20.0),
)


@dataclasses.dataclass(slots=True)
class Trial:
    """One scenario of one client, before it is evaluated. ``sent`` is None for what the writer wrote."""

    scenario: str
    client: Client
    fault_at: float
    since: float
    until: float
    sent: Mapping[Identity, float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """A line of the table."""

    scenario: str
    client: str
    sent: int
    once: int
    twice: int
    lost: int
    tail: int
    """Of the lost, those after the last event that came of their stream: lost for good, or late beyond the client's end."""
    disorder: int
    pause: float
    late: float | None
    """How long after the last row was sent the last one arrived, where the rows have an end."""
    told: str
    counters: Mapping[str, int]


def evaluate(trial: Trial, written: Mapping[Identity, float]) -> Outcome:
    """Compare what a client received with what was sent in its time."""
    sent = written if trial.sent is None else trial.sent
    counted = [identity for identity, at in sent.items() if trial.since <= at <= trial.until]
    client = trial.client
    times = Counter(identity for identity, _ in client.received)
    moments = [trial.since, *(at for _, at in client.received if at > trial.since)]
    if trial.until < math.inf:  # else the rows have an end of their own
        moments.append(client.stopped_at)
    last_sent = max((sent[identity] for identity in counted), default=trial.since)
    return Outcome(
        scenario=trial.scenario,
        client=client.kind,
        sent=len(counted),
        once=sum(times[identity] == 1 for identity in counted),
        twice=sum(count > 1 for count in times.values()),
        lost=sum(times[identity] == 0 for identity in counted),
        tail=_tail(counted, client.received),
        disorder=_disorder(client.received),
        pause=round(max((after - before for before, after in itertools.pairwise(moments)), default=0.0), 2),
        late=round(moments[-1] - last_sent, 2) if trial.until == math.inf else None,
        told=_told(trial),
        counters=client.counters,
    )


def _tail(counted: list[Identity], received: list[tuple[Identity, float]]) -> int:
    """Count events after the last one that came of their stream."""
    last: dict[str, tuple[int, int]] = {}
    for identity, _ in received:
        stream, epoch, seq = identity.split(" ")
        last[stream] = max((int(epoch), int(seq)), last.get(stream, (0, 0)))
    places = (identity.split(" ") for identity in counted)
    return sum((int(epoch), int(seq)) > last.get(stream, (0, 0)) for stream, epoch, seq in places)


def _disorder(received: list[tuple[Identity, float]]) -> int:
    """Count events that came after a later one of their stream."""
    last: dict[str, tuple[int, int]] = {}
    count = 0
    for identity, _ in received:
        stream, epoch, seq = identity.split(" ")
        place = int(epoch), int(seq)
        count += place < last.get(stream, (0, 0))
        last[stream] = max(place, last.get(stream, (0, 0)))
    return count


def _told(trial: Trial) -> str:
    """Return what the application was told from the fault on, with seconds since then."""
    said = [
        told
        for told in trial.client.told
        if trial.fault_at <= told.at <= trial.client.stopped_at and told.state != "began"
    ]
    lines = []
    for state, group in itertools.groupby(said, lambda told: told.state):
        first, *others = group
        times = f" x{len(others) + 1}" if others else ""
        why = f" ({_short(first.text)})" if first.text and state != "live" else ""
        lines.append(f"{state}{times} {first.at - trial.fault_at:.1f} s{why}")
    if trial.client.kind == "ours" and (count := trial.client.counters.get("backfilled")):
        lines.append(f"{count} events read from history")
    return "; ".join([*lines[:5], *(["..."] if len(lines) > 5 else [])]) or "nothing"


def _short(text: str) -> str:
    reason = text.partition("; next try")[0]
    return reason if len(reason) <= 70 else reason[:67] + "..."


# -- the scenarios


@asynccontextmanager
async def pair(ground: Ground, **options: float | None) -> AsyncIterator[list[Client]]:
    """Run both clients; yielded at once, each is live when it says so."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ground.client(kind, **options)) for kind in KINDS]


async def lived(clients: list[Client]) -> float:
    """Wait for all to be live; return when the last one was."""
    return max(await asyncio.gather(*(client.live() for client in clients)))


async def stop(clients: list[Client]) -> float:
    """Stop all; return until when rows count."""
    until = time.monotonic() - EDGE_SECONDS
    await asyncio.gather(*(client.stop() for client in clients))
    return until


Fault = Callable[[Client], Awaitable[None]]


async def network(
    ground: Ground, name: str, fault: Fault, lead: float, after: float, **options: float | None
) -> list[Trial]:
    """Do something to the connections of both clients at once."""
    async with pair(ground, **options) as clients:
        since = await lived(clients) + 1.0
        await asyncio.sleep(lead)
        fault_at = time.monotonic()
        await asyncio.gather(*map(fault, clients))
        await asyncio.sleep(after)
        until = await stop(clients)
        return [Trial(name, client, fault_at, since, until) for client in clients]


async def server(
    ground: Ground,
    name: str,
    fault: Callable[[], Awaitable[None]],
    extent: Extent,
    habits: tuple[str, ...] = HABITS,
) -> list[Trial]:
    """Do something to the server that both clients are connected to."""
    await ground.restart_gateway(habits)
    await ground.rate(100)

    async def once(client: Client) -> None:
        if client.kind == KINDS[0]:
            await fault()

    return await network(ground, name, once, extent.lead, extent.after)


async def start(ground: Ground, name: str, extent: Extent, *, cold: bool) -> list[Trial]:
    """Connect while rows are written, with nobody else subscribed or with somebody."""
    await ground.rate(200)
    async with AsyncExitStack() as stack:
        if cold:
            await ground.restart_gateway()
        else:
            await (
                await stack.enter_async_context(ground.client("ours"))
            ).live()  # the plain one says so too early
        clients = await stack.enter_async_context(pair(ground))
        await lived(clients)
        await asyncio.sleep(extent.lead + EDGE_SECONDS)
        until = await stop(clients)
        told = [await client.live() for client in clients]
        return [Trial(name, client, at, at, until) for client, at in zip(clients, told, strict=True)]


async def burst(ground: Ground, rows: int, extent: Extent) -> list[Trial]:
    """Commit many rows at once."""
    await ground.rate(0)
    async with pair(ground) as clients:
        await lived(clients)
        await asyncio.sleep(1)
        began = time.monotonic()
        sent = await ground.one_transaction(rows)
        await asyncio.gather(*(client.quiet(extent.quiet, extent.patience) for client in clients))
        await stop(clients)
        return [
            Trial(f"h {rows:,} rows in one transaction", client, began, began, math.inf, sent)
            for client in clients
        ]


async def rate(ground: Ground, per_second: int, extent: Extent) -> list[Trial]:
    """Write at a high rate for a while."""
    await ground.rate(0)
    async with pair(ground) as clients:
        await lived(clients)
        await asyncio.sleep(1)
        began = time.monotonic()
        await ground.rate(per_second)
        await asyncio.sleep(extent.rate_for)
        await ground.rate(0)
        await asyncio.gather(*(client.quiet(extent.quiet, extent.patience) for client in clients))
        await stop(clients)
        name = f"h {per_second}/s for {extent.rate_for:g} s"
        return [Trial(name, client, began, began, math.inf) for client in clients]


def _cut(seconds: float) -> Fault:
    async def fault(client: Client) -> None:
        await client.proxy.refuse()
        await asyncio.sleep(seconds)
        await client.proxy.resume()

    return fault


def _stall(seconds: float, *, reset: bool) -> Fault:
    async def fault(client: Client) -> None:
        client.proxy.stall()
        await asyncio.sleep(seconds)
        if reset:
            client.proxy.reset()
        await client.proxy.resume()

    return fault


async def _nothing(_: Client) -> None:
    pass


def at_once(ground: Ground, extent: Extent) -> dict[str, Callable[[], Awaitable[list[Trial]]]]:
    """Return what concerns one connection only, by name: all of it runs at the same time, on the same rows."""
    faults: dict[str, Fault] = {"control, no fault": _nothing, f"b cut {extent.cut:g} s": _cut(extent.cut)}
    for number, seconds in enumerate(extent.stalls):
        faults[f"c stall {seconds:g} s, resume"] = _stall(seconds, reset=False)
        if number == 0:
            faults[f"c stall {seconds:g} s, reset"] = _stall(seconds, reset=True)
    for seconds in extent.away:
        faults[f"f unreachable {seconds:g} s"] = _cut(seconds)
    found: dict[str, Callable[[], Awaitable[list[Trial]]]] = {
        name: functools.partial(network, ground, name, fault, extent.lead, extent.after)
        for name, fault in faults.items()
    }
    if (life := extent.life) is not None:
        renewals = {
            f"g token of {life:g} s, never renewed by the application": None,
            f"g token of {life:g} s, renewed at {0.6 * life:g} s": 0.6 * life,
            f"g token of {life:g} s, renewed at {1.25 * life:g} s, late": 1.25 * life,
        }
        for name, after in renewals.items():
            found[name] = functools.partial(
                network, ground, name, _nothing, 0.0, 2.2 * life, life=life, renew_after=after
            )
    return found


def one_by_one(ground: Ground, extent: Extent) -> list[tuple[str, Callable[[], Awaitable[list[Trial]]]]]:
    """Return what concerns everybody."""
    found: list[tuple[str, Callable[[], Awaitable[list[Trial]]]]] = []
    name = "a cold start, 200/s"
    found += [(name, functools.partial(start, ground, name, extent, cold=True))] * extent.cold_runs
    name = "a warm start, 200/s"
    found.append((name, functools.partial(start, ground, name, extent, cold=False)))
    for name, fault in {
        "d Realtime kill -9 and start": ground.restart_gateway,
        "e PostgreSQL restart, immediate": ground.restart_postgres,
        "e' the slot's backend terminated": ground.terminate_slot,
    }.items():
        found += [(name, functools.partial(server, ground, name, fault, extent))] * extent.runs
    name = "e'' the same, and the feed stays stuck"
    noticed = dataclasses.replace(extent, after=max(extent.after, 12.0))  # after two and a half heartbeats
    found.append((name, functools.partial(server, ground, name, ground.terminate_slot, noticed, STUCK)))
    found += [(f"h {rows} rows", functools.partial(burst, ground, rows, extent)) for rows in extent.bursts]
    found += [(f"h {each}/s", functools.partial(rate, ground, each, extent)) for each in extent.rates]
    return found


# -- the whole


async def measure(extent: Extent, only: list[str], mode: str, told: Callable[[Outcome], None]) -> None:
    """Run the scenarios whose names begin with one of the words, or all of them."""

    def wanted(name: str) -> bool:
        return not only or any(name.startswith(word) for word in only)

    async with ground(mode) as made:
        together = [each for name, each in at_once(made, extent).items() if wanted(name)]
        if together:
            await made.rate(100)
            trials = await asyncio.gather(*(each() for each in together))
            written = await made.written()
            for trial in itertools.chain(*trials):
                told(evaluate(trial, written))
        for name, each in one_by_one(made, extent):
            if wanted(name):
                trials = [await each()]
                written = await made.written()
                for trial in itertools.chain(*trials):
                    told(evaluate(trial, written))


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as Markdown: a line for each scenario, its runs separated by slashes."""
    head = "| scenario | sent | plain: lost | twice | longest pause, s | told | ours: lost | twice | longest pause, s | told |"
    lines = [head, "|" + " --- |" * head.count(" | ") + " --- |"]
    scenarios = list(dict.fromkeys(outcome.scenario for outcome in outcomes))
    for scenario in scenarios:
        cells = [scenario]
        for kind in KINDS:
            runs = [each for each in outcomes if each.scenario == scenario and each.client == kind]
            if kind == KINDS[0]:
                cells.append(" / ".join(f"{run.sent}" for run in runs))
            cells.append(" / ".join(f"**{run.lost}**" for run in runs))
            cells.append(" / ".join(str(run.twice) for run in runs))
            cells.append(" / ".join(_pause(run) for run in runs))
            cells.append(runs[0].told if runs else "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _pause(run: Outcome) -> str:
    return f"{run.pause:.1f}" if run.late is None else f"{run.pause:.1f}, last row {run.late:.1f} late"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small version of each, half a minute in all")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="scenarios whose names begin so"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append every outcome as a JSON line")
    parser.add_argument(
        "--mode", choices=["changes", "broadcast"], default="changes", help="default: %(default)s"
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="print the table of such a file, measure nothing"
    )
    arguments = parser.parse_args()
    if arguments.table is not None:
        lines = arguments.table.read_text().splitlines()
        print(table([Outcome(**each) for line in lines if "scenario" in (each := json.loads(line))]))
        return 0
    outcomes: list[Outcome] = []
    began = time.monotonic()

    def told(outcome: Outcome) -> None:
        outcomes.append(outcome)
        line = json.dumps(dataclasses.asdict(outcome))
        sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {line}\n")
        if arguments.json is not None:
            with arguments.json.open("a") as file:
                file.write(line + "\n")

    asyncio.run(measure(QUICK if arguments.quick else FULL, arguments.only, arguments.mode, told))
    print(table(outcomes))
    print(f"\n{time.monotonic() - began:.0f} s in all; {machine()}")
    broken = [
        each for each in outcomes if each.client == "ours" and (each.lost or each.twice or each.disorder)
    ]
    for each in broken:
        print(
            f"BROKEN: {each.scenario}: {each.lost} lost ({each.tail} at the end), {each.twice} twice, {each.disorder} out of order"
        )
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
