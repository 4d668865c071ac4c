"""``crossfade validate`` over the real backends: recorded, replayed, tested with faults, reported, kept."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from embedded.postgres import Postgres
from tests.e2e.installation import CROSSFADE, Installation, finish, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


@pytest.fixture(scope="module")
def recording(installation: Installation) -> Iterator[Path]:
    """What both real backends delivered for a while, and what a client here and one elsewhere saw; with the report."""
    checks = json.loads(installation.run("status", "--format", "json").stdout)["checks"]
    url = next(str(check["address"]) for check in checks if check["name"] == "query")
    token = installation.run("token", "far").stdout.strip()
    watchers = [
        subprocess.Popen(
            [CROSSFADE, "watch", *words], cwd=installation.directory, stdout=subprocess.DEVNULL,
            env={**installation.environment, "CROSSFADE_ACCESS_TOKEN": token},
        )
        for words in (("--client", "dash-here"), ("--client", "dash-far", "--at", url))
    ]  # fmt: skip
    try:
        yield record(installation)
    finally:
        for watcher in watchers:
            watcher.terminate()
            watcher.wait(20)


def record(installation: Installation) -> Path:
    done = installation.run("validate", "record", "recorded", "--for", "25s", "--format", "json", seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    directory = installation.directory / "recorded"
    (directory / "report.json").write_text(done.stdout)
    return directory


def test_a_replay_says_what_the_run_said(installation: Installation, recording: Path) -> None:
    live = json.loads((recording / "report.json").read_text())
    done = installation.run("validate", "replay", "recorded", "--format", "json")
    replayed = json.loads(done.stdout)
    assert done.returncode == live["exit_code"] == 0
    for report in (live, replayed):
        del report["about"]
        for side in report["sides"].values():
            del side["raw"], side["raw_repeats"]  # of the wire, before the comparison
    assert replayed == live


def test_what_clients_here_and_elsewhere_saw_agrees(recording: Path) -> None:
    seen = json.loads((recording / "report.json").read_text())["clients"]
    assert seen["clients"] >= 2
    assert seen["blocks"] == seen["agree"] >= 2
    assert seen["events"] > 10
    (cohort,) = seen["cohorts"].values()
    assert cohort["any"]["blocks"] == seen["blocks"]
    frames = [json.loads(line) for line in (recording / "frames.jsonl").read_text().splitlines()]
    told = {report[1] for frame in frames if frame["what"] == "clients" for report in frame["reports"]}
    assert {"dash-here", "dash-far"} <= told


def test_every_fault_in_what_the_real_backends_delivered_is_found(
    installation: Installation, recording: Path
) -> None:
    done = installation.run(
        "validate", "selftest", "recorded", "--rate", "0.1", "--rate", "0.0001", "--format", "json"
    )
    found = json.loads(done.stdout)
    assert [score for score in found["scores"] if not score["holds"]] == []
    assert done.returncode == 0
    assert all(score["injected"] for score in found["scores"][1:])


def test_a_recording_is_never_written_over(installation: Installation, recording: Path) -> None:
    done = installation.run("validate", "record", "recorded", "--for", "1s")
    assert done.returncode == 2
    assert "has a recording already" in done.stderr


def test_a_run_is_kept_as_a_file_and_as_rows(installation: Installation, recording: Path) -> None:
    listed = json.loads(installation.run("validate", "history", "--format", "json").stdout)
    assert listed
    name = listed[0]["run"]
    page = installation.run("validate", "report", "last", "--format", "html", "--out", "report.html")
    assert page.returncode == listed_code(listed[0]["verdict"])
    assert "<svg" in (installation.directory / "report.html").read_text()
    assert installation.run("validate", "report", name, "--format", "junit").stdout.startswith("<?xml")
    assert installation.run("validate", "report", name).stdout.startswith(listed[0]["verdict"])
    assert installation.run("validate", "report", "nonsense").returncode == 2
    assert row(installation, name) == (listed[0]["verdict"], listed[0]["decided"])


def listed_code(verdict: str) -> int:
    return {"PASS": 0, "FAIL": 1, "ERROR": 2, "INCONCLUSIVE": 3, "NO_DATA": 4}[verdict]


def row(installation: Installation, name: str) -> tuple[str, int] | None:
    import asyncio  # noqa: PLC0415 - here alone

    state = json.loads((installation.directory / ".crossfade/run/state.json").read_text())

    async def ask() -> tuple[str, int] | None:
        postgres = Postgres(
            installation.directory / ".crossfade", host="127.0.0.1", port=state["addresses"]["port_database"]
        )
        connection = await asyncpg.connect(postgres.dsn())
        try:
            found = await connection.fetchrow(
                "select verdict, decided from public.cf_validation_runs where name = $1", name
            )
        finally:
            await connection.close()
        return tuple(found) if found else None

    return asyncio.run(ask())


def test_ctrl_c_ends_with_an_honest_report(installation: Installation) -> None:
    comparing = installation.begin("validate", "live", "--for", "10m")
    began = len(list((installation.directory / ".crossfade/validation/runs").glob("*")))
    wait_until("it compares", lambda: connected(installation, comparing.pid), 20)
    comparing.send_signal(signal.SIGINT)
    out, err = finish(comparing)
    assert comparing.returncode == 3, out + err
    assert out.startswith("INCONCLUSIVE: stopped ")
    assert len(list((installation.directory / ".crossfade/validation/runs").glob("*"))) == began + 1


def connected(installation: Installation, pid: int) -> bool:
    import psutil  # noqa: PLC0415 - here alone

    port = int(installation.part("legacy")["address"].rpartition(":")[2].partition("/")[0])
    return any(each.raddr and each.raddr.port == port for each in psutil.Process(pid).net_connections())


def test_it_can_run_until_it_passes(installation: Installation) -> None:
    done = installation.run(
        "validate", "live", "--until", "pass", "--rule-out", "0.2", "--format", "json", seconds=120
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"]) == (0, "PASS")
    assert report["upper_bound_95"] <= 0.2


def test_the_continuous_comparison_goes_on_where_it_stood(installation: Installation) -> None:
    def learnt(what: str = "events") -> int:
        report = json.loads((installation.directory / ".crossfade/run/parity.json").read_text())
        return int(report.get("evidence", {}).get("any", {}).get(what, 0))

    wait_until("it has learnt something", lambda: learnt() > 20, 60)
    before, found = learnt(), learnt("findings")  # other tests have ended parts of this installation
    installation.kill("parity")
    wait_until("it knows what it knew", lambda: learnt() >= before, 30)
    report = json.loads((installation.directory / ".crossfade/run/parity.json").read_text())
    assert report["total"]["decided"] < report["evidence"]["any"]["events"]
    assert report["evidence"]["any"]["findings"] == found


def test_the_continuous_comparison_starts_and_ends_with_the_stage(installation: Installation) -> None:
    def state() -> str:
        return str(
            json.loads((installation.directory / ".crossfade/run/parity.json").read_text()).get("state")
        )

    wait_until("it compares", lambda: state() == "comparing", 60)
    try:
        assert installation.run("flags", "set", "stage", "dualwrite").returncode == 0
        wait_until("it waits", lambda: state() == "idle", 30)
        assert "nothing is compared in stage dualwrite" in installation.run("status").stdout
    finally:
        installation.run("flags", "set", "stage", "live")
    wait_until("it compares again", lambda: state() == "comparing", 60)


def test_anybodys_recordings(installation: Installation) -> None:
    events = [{"host": "h", "ts": 1_700_000_000 + n, "order": {"id": n}, "value": n} for n in range(400)]
    where = installation.directory
    (where / "old.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    (where / "new.jsonl").write_text(
        "".join(json.dumps(dict(reversed(each.items()))) + "\n" for each in events)
    )
    words = (
        "validate",
        "compare",
        "old.jsonl",
        "new.jsonl",
        "--key",
        "order.id",
        "--stream",
        "host",
        "--time",
        "ts",
    )
    assert installation.run(*words).returncode == 0
    (where / "rules.yaml").write_text("- {path: payload.value, tolerance: 2}\n")
    events[7]["value"] += 1
    (where / "new.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    found = installation.run(*words)
    assert found.returncode == 1
    assert "supabase payload.value: expected 7, got 8" in found.stdout
    passed = installation.run(*words, "--rules", "rules.yaml")
    assert passed.returncode == 0
    assert "1 differences at payload.value, which a rule let pass" in passed.stdout
    assert installation.run(*words[:2], "nothing.jsonl", "new.jsonl").returncode == 2
    for rules in ("- {path: value}\n", "- {\n", "path: [\n"):
        (where / "rules.yaml").write_text(rules)
        assert installation.run(*words, "--rules", "rules.yaml").returncode == 2
