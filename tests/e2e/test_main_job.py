"""The main job through the installed command: both paths, a flag that moves a client, faults that lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from typing import Any

import pytest

from tests.e2e.installation import Installation, events, finish, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def test_status_names_every_part_and_says_healthy(installation: Installation) -> None:
    done = installation.run("status", "--format", "json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    named = {check["name"] for check in report["checks"]}
    assert {"postgres", "realtime", "legacy", "collect", "parity"} <= named
    assert report["healthy"] is all(check["ok"] for check in report["checks"])


def test_both_backends_print_the_same_events(installation: Installation) -> None:
    sides = {
        side: installation.begin("watch", "--backend", side, "--for", "10s")
        for side in ("legacy", "supabase")
    }
    seen = {}
    for side, process in sides.items():
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        seen[side] = {(e["stream"], e["epoch"], e["seq"]): e for e in events(out)}
    both = seen["legacy"].keys() & seen["supabase"].keys()
    assert len(both) >= 8, "they overlap by less than four seconds"
    # The two did not start in the same instant: only events before or after the common time of a stream may differ.
    for stream in {stream for stream, _, _ in both}:
        shared = {key for key in both if key[0] == stream}
        first, last = min(shared), max(shared)
        for side in seen.values():
            assert {key for key in side if first <= key <= last} == shared
    for key in both:
        assert seen["legacy"][key] == seen["supabase"][key]


def test_a_watcher_is_moved_there_and_back_and_prints_every_event_once(installation: Installation) -> None:
    watcher = installation.begin("watch", "--client", "somebody", "--verify")
    try:
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        first, moves = watcher.stdout.readline(), []
        for percent in ("100", "0"):
            done = installation.run("flags", "set", "live.percent", percent)
            assert done.returncode == 0, done.stderr
            for _ in range(6):
                first += watcher.stdout.readline()
            said = watcher.stderr.readline()
            while "moved: " not in said:
                assert said, "the watcher ended"
                said = watcher.stderr.readline()
            moves.append(said)
        watcher.send_signal(signal.SIGINT)
        out, err = finish(watcher)
    finally:
        installation.run("flags", "set", "live.percent", "0")
    assert watcher.returncode == 0, err
    err = "".join([*moves, err])
    assert err.count("moved: legacy to supabase") == 1, err
    assert err.count("moved: supabase to legacy") == 1, err
    printed = [(e["epoch"], e["seq"]) for e in events(first + out) if e["stream"] == "e2e/system"]
    assert printed == [(printed[0][0], printed[0][1] + n) for n in range(len(printed))]


def test_validation_passes_while_both_paths_work(installation: Installation) -> None:
    done = installation.run("validate", "live", "--for", "8s", "--format", "json", seconds=90)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "PASS"
    assert report["counts"]["matched"] == report["decided"] >= 10


def test_validation_does_not_pass_when_the_legacy_server_stops_half_way(installation: Installation) -> None:
    comparing = installation.begin("validate", "live", "--for", "10s", "--format", "json")
    frozen = installation.part("legacy")["pid"]
    try:
        wait_until("the comparison has begun", lambda: _compared(installation, comparing.pid), 20)
        os.kill(frozen, signal.SIGSTOP)
        out, err = comparing.communicate(timeout=90)
    finally:
        os.kill(frozen, signal.SIGKILL)  # the supervisor brings a fresh one
    assert comparing.returncode in {1, 3}, out + err
    assert json.loads(out)["verdict"] in {"FAIL", "INCONCLUSIVE"}
    wait_until("all is healthy again", installation.healthy, 60)


def test_validation_passes_and_says_so_when_the_legacy_server_was_away_and_brought_everything(
    installation: Installation,
) -> None:
    comparing = installation.begin("validate", "live", "--for", "14s")
    wait_until("it is connected", lambda: _compared(installation, comparing.pid), 20)
    # Its window begins when both sides are live, which nobody tells us; some events later they are.
    later = _head(installation) + 10
    wait_until("the window has begun", lambda: _head(installation) >= later, 20)
    installation.kill("legacy")
    out, err = comparing.communicate(timeout=90)
    assert comparing.returncode == 0, out + err
    head = out.partition("\n\n")[0]
    assert head.startswith("PASS")
    assert "legacy was away 1 time, nothing was missed" in head


def _head(installation: Installation) -> int:
    """Return how far the stream of the host is."""
    report = json.loads((installation.directory / ".crossfade/run/collect.json").read_text())
    return int(report["streams"]["e2e/system"]["seq"])


def _compared(installation: Installation, pid: int) -> bool:
    """Tell whether the validating process is connected to the legacy server."""
    import psutil  # noqa: PLC0415 - here alone

    port = int(installation.part("legacy")["address"].rpartition(":")[2].partition("/")[0])
    return any(each.raddr and each.raddr.port == port for each in psutil.Process(pid).net_connections())


def test_killed_parts_come_back_and_no_watcher_misses_anything(installation: Installation) -> None:
    watchers = {
        side: installation.begin("watch", "--backend", side, "--verify", "--client", "k")
        for side in ("auto", "legacy", "supabase")
    }
    firsts = {}
    for side, watcher in watchers.items():
        assert watcher.stdout is not None
        firsts[side] = watcher.stdout.readline()
    for part in ("postgres", "realtime", "legacy"):
        installation.kill(part)
    head = max(place(e) for e in events(installation.run("watch", "--for", "2s").stdout))
    for side, watcher in watchers.items():
        # It comes back when its backend does, which takes a busy machine longer; then it has all of it.
        read_until(watcher, firsts[side], head)
        watcher.send_signal(signal.SIGINT)
        _, err = finish(watcher, 30)
        assert watcher.returncode == 0, f"{side}: {err}"
        assert "no hole, no double" in err, f"{side}: {err}"


def place(event: dict[str, Any]) -> tuple[bool, int]:
    """Order the events of this host's system stream; those of others come before them."""
    return event["stream"].endswith("/system"), event["seq"]


def read_until(watcher: subprocess.Popen[str], line: str, head: tuple[bool, int]) -> None:
    """Read what a watcher prints until it has come as far; one that does not within a minute is ended, and fails."""
    assert watcher.stdout is not None
    late = threading.Timer(60, watcher.kill)
    late.start()
    try:
        while line and place(json.loads(line)) < head:
            line = watcher.stdout.readline()
    finally:
        late.cancel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_and_nothing_is_left(number: signal.Signals, make_installation) -> None:
    made = make_installation()
    made.start("--without", "dashboard", "--no-docker", "--without", "parity")
    assert made.stop(number) == 0


def test_a_restart_goes_on_where_it_was(make_installation) -> None:
    made = make_installation()
    made.start("--without", "dashboard", "--no-docker", "--without", "parity")
    before = events(made.run("watch", "--for", "2s").stdout)
    assert made.stop() == 0
    made.start("--without", "dashboard", "--no-docker", "--without", "parity")
    after = events(made.run("watch", "--for", "2s").stdout)
    assert {e["epoch"] for e in before + after} == {1}
    assert min(e["seq"] for e in after) > max(e["seq"] for e in before)
