"""Flags: evaluations a second, and a million clients under edits.

    python bench/flags.py [--clients N] [--json FILE]

``evaluate``: one thread, ids that are not repeated, with a rollout's ceiling, both lists and, apart, two cohorts. Beside it
flagd's own core in this process. ``million``: how even the buckets are, that a growing percentage only adds clients, and how
many clients a second an edit is worked out for. A second is one of this process's CPU: it waits for nothing, and what else the
machine does is not what is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from programs import machine

from monitoring.flags.evaluation import bucket_of, compiled
from monitoring.flags.flagd import to_flagd
from monitoring.flags.model import Ceiling, ClientId, Cohort, Flags
from monitoring.flags.planning import plan
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Stage
from monitoring.service import Backend

LADDER = (1_000, 5_000, 10_000, 25_000, 50_000, TOTAL_WEIGHT)
LISTED = frozenset(ClientId(f"listed-{number}") for number in range(1_000))
PLAIN = Flags(weight=25_000)
RULES = Flags(weight=25_000, allow=LISTED, deny=LISTED, ceiling=Ceiling(Extent(Stage.LIVE, 10_000)))
COHORTS = Flags(
    weight=25_000,
    allow=LISTED,
    cohorts=(
        Cohort("ops", frozenset({"ops-*", "dash-1"}), Extent(Stage.LIVE)),
        Cohort("eu", frozenset({f"eu-{number}-*" for number in range(20)}), Extent(Stage.SHADOW, 1_000)),
    ),
)


def rate(flags: Flags, ids: list[str], repeats: int = 7) -> int:
    """Return evaluations a second: the median of some runs over all ids."""
    decide = compiled(flags)
    rates = []
    for _ in range(repeats):
        began = time.process_time()
        for client in ids:
            decide(client)
        rates.append(len(ids) / (time.process_time() - began))
    return round(statistics.median(rates))


def flagd_rate(flags: Flags, ids: list[str]) -> int:
    core = FlagdCore()
    core.set_flags(to_flagd(flags))
    contexts = [EvaluationContext(targeting_key=client) for client in ids]
    began = time.process_time()
    for context in contexts:
        core.resolve_string_value("live", "none", context)
    return round(len(ids) / (time.process_time() - began))


def million(ids: list[str]) -> dict[str, Any]:
    """Look at the split itself, and at an edit."""
    began = time.process_time()
    buckets = [bucket_of(client) or 0 for client in ids]
    hashed = time.process_time() - began
    percents = [0] * 100
    for bucket in buckets:
        percents[bucket // 1000] += 1
    expected = len(ids) / 100
    chi_square = sum((count - expected) ** 2 / expected for count in percents)
    served: set[str] = set()
    shares, lost, decided = {}, 0, 0.0
    for weight in LADDER:
        decide = compiled(Flags(weight=weight))
        began = time.process_time()
        now = {client for client in ids if decide(client).value is Backend.SUPABASE}
        decided += time.process_time() - began
        lost += len(served - now)
        served = now
        shares[f"{weight / 1000:g}"] = round(100 * len(now) / len(ids), 4)
    began = time.process_time()
    found = plan(Flags(weight=10_000), Flags(weight=25_000), ids)
    planned = time.process_time() - began
    return {
        "clients": len(ids),
        "buckets_a_second": round(len(ids) / hashed),
        "chi_square_of_100_buckets": round(chi_square, 1),
        "chi_square_99_percent": 134.6,
        "largest_deviation_percent": round(max(abs(count / expected - 1) for count in percents) * 100, 2),
        "percent_served": shares,
        "left_by_a_growing_percentage": lost,
        "decided_a_second": round(len(LADDER) * len(ids) / decided),
        "an_edit": {
            "from_to": "10 % -> 25 %",
            "moves": len(found.forward),
            "back": len(found.back),
            "seconds": round(planned, 2),
            "moves_a_second": round(len(found.forward) / planned),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    ids = [f"client-{number}" for number in range(given.clients)]
    some, few = ids[:200_000], ids[:5_000]
    result = {
        "evaluations_a_second": {
            "percentage alone": rate(PLAIN, some),
            "both lists of 1,000 and a ceiling": rate(RULES, some),
            "two cohorts of 22 patterns": rate(COHORTS, some),
            "flagd's core, percentage alone": flagd_rate(PLAIN, few),
        },
        "million": million(ids),
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
