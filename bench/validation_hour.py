"""An hour of the two real backends compared and recorded, and the comparison tested with known faults in what was recorded.

    python bench/validation_hour.py [--minutes N] [--rate N] [--mode changes|broadcast] [--json FILE]

`crossfade up`, a spool of 20 streams with its forwarders, and `crossfade validate record` as a viewer of both backends: the
streams are clean, so each finding would be a false one. Then `crossfade validate selftest` puts drops, duplicates, changes,
reorderings, delays and stalls into that recording, on one side and on both, at 0.01 % to 10 %: what of them was found is
recall, and what else was called a finding counts against precision. Exit code 1 unless the hour passes without a finding,
every fault is found, and nothing else is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from handover import CATEGORIES, DEVICES, PARTS, Installation, database_url, installation
from programs import HERE, ROOT, machine, program

from tests.e2e.installation import clean_environment


async def main(minutes: float, rate: float, mode: str | None) -> dict[str, Any]:
    """Record, and test the comparison with the recording."""
    async with installation(mode, PARTS) as made:
        host, port = made.address("host"), made.address("port_legacy")
        streams = [f"bench-{device}/{category}" for device in range(DEVICES) for category in CATEGORIES]
        argv: list[str | Path] = [HERE / "event_writer.py", "--spool", made.data.spool]
        argv += ["--streams", ",".join(streams)]
        argv += ["--legacy-url", f"ws://{host}:{port}/link", "--token-file", made.data.link_token]
        async with program(made.errors, *argv, DATABASE_URL=database_url(made)) as writer:
            if (said := await writer.line(60)) != "ready":
                raise RuntimeError(f"the writer said {said!r}")
            writer.tell(f"rate {rate:g}")
            recording = made.directory / "recording"
            report = await _run(made, "validate", "record", str(recording), "--for", f"{minutes * 60:g}s")
            writer.tell("rate 0")
        sys.stderr.write(f"the recording: {report['verdict']}\n")
        tested = await _run(made, "validate", "selftest", str(recording))
        recorded = sum(each.stat().st_size for each in recording.iterdir())
    return {
        "minutes": minutes,
        "rate": rate,
        "mode": mode or "changes",
        "streams": len(streams),
        "verdict": report["verdict"],
        "classes": {name: count for name, count in report["counts"].items() if count},
        "recorded_bytes": recorded,
        "faults": tested["scores"],
        "holds": tested["holds"],
        "machine": machine(),
    }


async def _run(made: Installation, *words: str) -> dict[str, Any]:
    """Run a command, and return what it says in JSON; 1 and 3 are verdicts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crossfade", *words, "--format", "json"),
        cwd=made.directory,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode not in {0, 1, 3}:
        raise RuntimeError(f"crossfade {' '.join(words)} ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out)
    return found


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    seen = ", ".join(f"{count:,} {name}" for name, count in result["classes"].items())
    what = f"{result['minutes']:g} minutes at {result['rate']:g} events/s in {result['streams']} streams"
    lines = [
        f"{what}, {result['mode']}: {result['verdict']}; {seen}",
        "",
        "| fault | sides | rate | put in | found | recall | called a finding besides | precision | tripped after |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {each['fault']} | {each['sides']} | {each['rate']:.2%} | {each['injected']:,} | {each['found']:,} | "
        f"{each['recall']:.1%} | {each['false']:,} | {each['precision']:.1%} | {each['tripped_at_events'] or '-'} |"
        for each in result["faults"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="how long to record (default: %(default)g)"
    )
    parser.add_argument(
        "--rate", type=float, default=50.0, help="events a second in all (default: %(default)g)"
    )
    parser.add_argument("--mode", choices=["changes", "broadcast"], help="of Realtime (default: its own)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the result as a JSON line")
    arguments = parser.parse_args()
    result = asyncio.run(main(arguments.minutes, arguments.rate, arguments.mode))
    print(table(result))
    if arguments.json:
        with arguments.json.open("a") as out:
            out.write(json.dumps(result) + "\n")
    clean = result["verdict"] == "PASS" and set(result["classes"]) <= {"matched"}
    sys.exit(0 if result["holds"] and clean else 1)
