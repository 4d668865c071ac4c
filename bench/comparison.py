"""The comparison's speed and memory, beside DuckDB from Python objects; and how often it trips, simulated.

    python bench/comparison.py [speed|memory|trips]

Speed is CPU time of one core for the core itself: the truth and both sides taken in, decided and counted; what is
compared has been read already, as it has when an adapter hands it over. DuckDB is measured from the same Python objects
to the same answer; it is installed for that alone: pip install duckdb.
"""

from __future__ import annotations

import math
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable

import orjson

from monitoring.events import Position, StreamId
from validation.alignment import Alignment
from validation.limits import Limits
from validation.observation import Outcome
from validation.statistics import DEFAULT, Block, Evidence
from validation.tally import Tally

EVENTS = 200_000
STREAMS = [StreamId(f"web-{n}/system") for n in range(50)]


def contents(rng: random.Random) -> list[tuple[StreamId, int, bytes, bytes]]:
    """Return events as (stream, seq, JSON, the same with its keys in another order)."""
    made = []
    for number in range(EVENTS):
        payload = {
            "cpu_usage": rng.random() * 100,
            "memory": {"total": 16_000_000_000, "used": rng.randrange(16_000_000_000)},
            "n": number,
        }
        said = {
            "id": f"01990000-0000-7000-8000-{number:012d}",
            "kind": "metric_collected",
            "occurred_at": "2026-11-21T08:00:00.000000Z",
            "payload": payload,
        }
        other = {name: said[name] for name in reversed(said)}
        other["payload"] = dict(reversed(payload.items()))
        made.append((STREAMS[number % 50], number // 50 + 1, orjson.dumps(said), orjson.dumps(other)))
    return made


def play(events: list[tuple[StreamId, int, bytes, bytes]], *, reordered: bool) -> dict[Outcome, int]:
    """Publish and deliver everything on both sides, and decide as time goes by."""
    core, tally = Alignment({}, Limits()), Tally()
    at = 0.0
    for start in range(0, len(events), 1000):
        batch = events[start : start + 1000]
        for stream, seq, content, _ in batch:
            core.publish_content(stream, 1, seq, content, at)
        for stream, seq, content, _ in batch:
            core.observe_content(0, stream, 1, seq, content, at + 0.01, 0.01)
        for stream, seq, content, other in batch:
            core.observe_content(1, stream, 1, seq, other if reordered else content, at + 0.02, 0.02)
        at += 1.0
        tally.add(core.decide(at))
    for _ in range(20):
        at += 1.0
        tally.add(core.decide(at))
    return {outcome: count for outcome, count in tally.counts.items() if count}


def best(run: Callable[[], object], times: int = 3) -> float:
    """Return the shortest CPU time of some runs, in seconds."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return min(taken)


def speed() -> None:
    events = contents(random.Random(1))  # noqa: S311 - a seed, not a secret
    print(
        f"{EVENTS:,} events of {statistics.mean(len(each[2]) for each in events):.0f} bytes on both sides\n"
    )
    print(f"{'one core':<44}{'events/s':>12}{'deliveries/s':>14}")
    for name, reordered in (("bytes equal", False), ("keys in another order", True)):
        assert play(events, reordered=reordered) == {Outcome.MATCHED: EVENTS}
        seconds = best(lambda reordered=reordered: play(events, reordered=reordered))
        print(f"{name:<44}{EVENTS / seconds:>12,.0f}{2 * EVENTS / seconds:>14,.0f}")
    try:
        import duckdb  # noqa: PLC0415 - not of the project's own
    except ImportError:
        print("DuckDB is not installed: pip install duckdb")
        return
    for batch in (10_000, EVENTS):
        for name, reordered in (("text equal", False), ("JSON normalised", True)):
            seconds = best(
                lambda batch=batch, reordered=reordered: join(duckdb, events, batch, reordered=reordered)
            )
            title = f"DuckDB, 1 thread, batches of {batch:,}, {name}"
            print(f"{title:<44}{EVENTS / seconds:>12,.0f}{2 * EVENTS / seconds:>14,.0f}")


def join(
    duckdb: object, events: list[tuple[StreamId, int, bytes, bytes]], batch: int, *, reordered: bool
) -> None:
    """Join both sides, from the same Python objects, and count what differs."""
    import pyarrow as pa  # noqa: PLC0415 - comes with Streamlit

    connection = duckdb.connect(config={"threads": 1})  # type: ignore[attr-defined]
    differing = 0
    for start in range(0, len(events), batch):
        part = events[start : start + batch]
        keys = {"stream": [each[0] for each in part], "seq": [each[1] for each in part]}
        a = pa.table({**keys, "body": [each[2].decode() for each in part]})
        b = pa.table({**keys, "body": [each[3 if reordered else 2].decode() for each in part]})
        cursor = connection.cursor()
        cursor.register("a", a)
        cursor.register("b", b)
        same = "a.body = b.body"
        if reordered:
            fields = (
                "$.id",
                "$.kind",
                "$.occurred_at",
                "$.payload.cpu_usage",
                "$.payload.n",
                "$.payload.memory",
            )
            paths = ", ".join(f"'{field}'" for field in fields)
            same = f"json_extract_string(a.body, [{paths}]) = json_extract_string(b.body, [{paths}])"
        ((found,),) = cursor.execute(
            f"select count(*) from a full join b using (stream, seq) where not ({same}) or a.body is null or b.body is null"  # noqa: S608 - ours alone
        ).fetchall()
        differing += found
    assert differing == 0


def memory() -> None:
    """Open a million events that one side does not deliver."""
    rng = random.Random(1)  # noqa: S311 - a seed
    core = Alignment({stream: Position(1, 0) for stream in STREAMS}, Limits())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 1_000_000
    for number in range(count):
        stream, seq = STREAMS[number % 50], number // 50 + 1
        said = orjson.dumps({"n": number, "cpu_usage": rng.random(), "text": "x" * 150})
        content = bytes(memoryview(said))  # as `validation.comparison.encode` does
        core.publish_content(stream, 1, seq, content, number / count)
        core.observe_content(0, stream, 1, seq, content, number / count, 0.01)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert core.open == count
    began = time.process_time()
    core.decide(6.0)
    print(f"{count:,} open events: {grown / 1e6:.0f} MB more at the peak, {grown / count:.0f} bytes each")
    print(f"a look at them that decides nothing: {(time.process_time() - began) * 1000:.2f} ms")


def trips() -> None:
    """Simulate how soon a loss trips, and how often a path at the limit trips falsely in a million events."""
    print(f"{'loss':<26}{'block':>8}{'median events':>16}{'95 % within':>14}{'false/million':>16}")
    for burst, size in ((1, 1), (1, 5), (1, 20), (1, 100), (100, 500), (300, 1000)):
        rng = random.Random(burst * 1000 + size)  # noqa: S311 - a seed
        name = "independent" if burst == 1 else f"bursts of about {burst}"
        found = [tripped(rng, 0.01, burst, size, 10**7) for _ in range(300)] if burst == 1 else []
        false = sum(tripped(rng, DEFAULT.limit, burst, size, 10**6) is not None for _ in range(1000)) / 1000
        soon = (
            f"{statistics.median(found):>16,.0f}{statistics.quantiles(found, n=20)[-1]:>14,.0f}"
            if found
            else f"{'':>30}"
        )  # type: ignore[type-var]
        print(f"{name:<26}{size:>8}{soon}{false:>15.1%}")


def tripped(rng: random.Random, rate: float, burst: int, size: int, events: int) -> int | None:
    """Return after how many events a path with a rate of losses trips; None when it does not."""
    evidence = Evidence()
    seen = 0
    while seen < events:
        run = geometric(rng, rate / burst)
        lost = geometric(rng, 1 / burst) + 1 if burst > 1 else 1
        seen += run + lost
        # The CUSUM only sinks over clean blocks, so that all of them are one step.
        evidence = evidence.add(Block(run - run % size)).add(Block(run % size + lost, lost, 1))
        if evidence.tripped_at_events is not None:
            return seen
    return None


def geometric(rng: random.Random, chance: float) -> int:
    return int(math.log(1 - rng.random()) / math.log(1 - chance))


if __name__ == "__main__":
    for name in sys.argv[1:] or ["speed", "memory", "trips"]:
        {"speed": speed, "memory": memory, "trips": trips}[name]()
