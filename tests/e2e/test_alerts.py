"""From a breach to people: through both processes, a real webhook, kills and mistakes."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from crossfade import push
from tests.e2e.installation import Installation, wait_until
from tests.fakes.webhook import Webhook

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-own")]

RULES = """version: 1
channels:
  - {{name: hook, url: '{url}', burst: 100}}
grouping: {{wait: 1s, interval: 1s}}
rules:
  - {{name: level, kind: threshold, metric: load.level, above: 10, cooldown: 0s}}
  - {{name: slow, kind: threshold, metric: load.slow, above: 10, for: 12s, cooldown: 0s}}
end: true
"""
DEADLINE_SECONDS = 5.0
"""From a breach to people, on a machine that has time for it; bench/alerts.py measures it."""
SLOWER = 10
"""Where the machine is so slow that a reading takes long to be in the database, it may be so many times that."""


class Alerted:
    """An installation whose alerts go to a webhook, and an application that pushes readings to it."""

    def __init__(self, installation: Installation, hook: Webhook) -> None:
        self.installation = installation
        self.hook = hook
        self.rules = installation.directory / "alerts.yaml"
        self.rules.write_text(RULES.format(url=hook.url))

    def read(self, device: str, **payload: float) -> float:
        """Push one reading; return the time before that."""
        began = time.monotonic()
        with push.application(device, self.installation.directory / ".crossfade") as app:
            app.event("load", "sample", payload)
            assert app.flush(20)
        return began

    def stored(self, device: str, **payload: float) -> float:
        """Wait until a reading is the newest of its device in the database, and return when: how fast the machine is now."""
        topic = {"topic": f"devices.{device}", "kind": "sample", "limit": 1}

        def there() -> bool:
            found = self.http.get("/api/events", params=topic).json()["events"]
            return bool(found) and found[0]["payload"] == payload

        wait_until(f"{payload} of {device} is in the database", there)
        return time.monotonic()

    def push(self, events: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Push events, (stream, kind, payload) each, in one request."""
        told = [
            {
                "id": str(uuid.uuid4()), "stream": stream, "kind": kind,
                "occurred_at": datetime.now(UTC).isoformat(), "payload": payload,
            }
            for stream, kind, payload in events
        ]  # fmt: skip
        assert self.http.post("/api/events", json={"events": told}).json()["refused"] == 0

    @cached_property
    def http(self) -> httpx.Client:
        """The query service, as an operator."""
        token = self.installation.run("token", "tests", "--role", "operator").stdout.strip()
        url = str(self.installation.part("query")["address"])
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    @contextmanager
    def ruled(self, more: str, number: int) -> Iterator[None]:
        """Have more rules in force, so many in all, for as long as the block runs."""
        before = self.rules.read_text()
        self.rules.write_text(before.replace("end: true", f"{more}end: true"))
        wait_until("they are in force", lambda: self.status()["rules"] == number)
        try:
            yield
        finally:
            self.rules.write_text(before)

    def told(self, title: str, seconds: float = 60) -> float:
        """Wait until a message with a title came; return when."""
        wait_until(
            f"told {title!r}, and not only {self.hook.titles}", lambda: title in self.hook.titles, seconds
        )
        return next(at for at, body in self.hook.told if body["title"] == title)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.installation.directory / ".crossfade/run/alerts.json").read_text()
        )
        return found

    def alerts(self, *options: str) -> list[dict[str, Any]]:
        done = self.installation.run("alerts", "list", "--format", "json", *options)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["alerts"]
        return found


@pytest.fixture(scope="module")
def alerted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerted]:
    made = Installation(tmp_path_factory.mktemp("alerted"))
    with Webhook() as hook:
        found = Alerted(made, hook)
        try:
            made.start("--without", "dashboard,parity", "--no-docker")
            yield found
            found.http.close()
        finally:
            made.remove()


def allowed(seconds: float) -> float:
    """Return how long people may wait when the database has waited so many seconds for the same reading."""
    return max(DEADLINE_SECONDS, SLOWER * seconds)


def test_a_breach_reaches_a_webhook_within_five_seconds_and_so_does_its_end(alerted: Alerted) -> None:
    alerted.read("app-1", level=0)
    alerted.stored("app-1", level=0)  # what comes first of a device is slower on both ways
    began = alerted.read("app-1", level=50)
    there = alerted.stored("app-1", level=50)
    assert alerted.told("[warning] level: app-1") - began < allowed(there - began)
    wait_until("it is listed", lambda: [alert["device"] for alert in alerted.alerts()] == ["app-1"])
    done = alerted.installation.run("alerts", "ack", alerted.alerts()[0]["id"][:8])
    assert done.stdout == "acknowledged: level app-1\n", done.stderr
    wait_until("it is acknowledged", lambda: bool(alerted.alerts()[0]["acknowledged_by"]))
    began = alerted.read("app-1", level=1)
    there = alerted.stored("app-1", level=1)
    assert alerted.told("[resolved] level: app-1") - began < allowed(there - began)
    wait_until("it is over", lambda: alerted.alerts() == [])

    def recorded() -> list[tuple[str, bool]]:
        rows = alerted.alerts("--history")
        return [
            (row["state"], row["acknowledged_by"] is not None) for row in rows if row["device"] == "app-1"
        ]

    wait_until("the database has the whole episode", lambda: recorded() == [("ok", True)])


def killed(alerted: Alerted) -> float:
    """Kill -9 the alerting process; return when another says how it is."""
    installation = alerted.installation
    before = installation.part("alerts")["pid"]
    os.kill(before, signal.SIGKILL)
    at = time.time()
    wait_until("another is started", lambda: installation.part("alerts")["pid"] not in {None, before})
    status = installation.directory / ".crossfade/run/alerts.json"
    wait_until("it says how it is", lambda: status.exists() and status.stat().st_mtime > at, 60)
    return time.monotonic()


def test_what_is_pending_survives_a_kill_and_is_told_once(alerted: Alerted) -> None:
    began = alerted.read("app-2", slow=50)
    wait_until("it is pending", lambda: alerted.status()["counts"].get("pending") == 1)
    wait_until("half of its time is over", lambda: time.monotonic() - began > 6)
    begun_again = killed(alerted)
    at = alerted.told("[warning] slow: app-2")
    assert at - began >= 12
    # The twelve seconds are those from the breach: begun anew, they would end so long after the new process began.
    assert at - begun_again < 12
    wait_until("all is healthy", alerted.installation.healthy, 60)
    alerted.read("app-2", slow=1)
    alerted.told("[resolved] slow: app-2")
    assert alerted.hook.titles.count("[warning] slow: app-2") == 1


def test_a_backend_that_is_killed_costs_no_alert(alerted: Alerted) -> None:
    before = alerted.installation.part("legacy")["pid"]
    os.kill(before, signal.SIGKILL)
    alerted.read("app-3", level=50)
    alerted.told("[warning] level: app-3")
    wait_until("legacy is back", lambda: alerted.installation.part("legacy")["pid"] not in {None, before})
    alerted.read("app-3", level=1)
    alerted.told("[resolved] level: app-3")
    wait_until("all is healthy", alerted.installation.healthy)


def test_a_channel_that_refuses_is_told_when_it_takes_messages_again_and_once(alerted: Alerted) -> None:
    alerted.hook.works = False
    try:
        alerted.read("app-4", level=50)
        wait_until("it was refused", lambda: alerted.hook.refused >= 3)
        alerted.installation.kill("alerts")
    finally:
        alerted.hook.works = True
    alerted.told("[warning] level: app-4", 60)
    alerted.read("app-4", level=1)
    alerted.told("[resolved] level: app-4")
    assert alerted.hook.titles.count("[warning] level: app-4") == 1


def test_a_changed_rule_file_is_followed_and_a_bad_one_is_not(alerted: Alerted) -> None:
    good = alerted.rules.read_text()
    alerted.rules.write_text(good.replace("above: 10", "above: ten"))
    wait_until("the mistake is said", lambda: "line 6" in str(alerted.status()["problem"]))
    assert alerted.installation.run("alerts", "validate").returncode == 1
    alerted.read("app-5", level=50)
    alerted.told("[warning] level: app-5")
    alerted.rules.write_text(good.replace("above: 10, cooldown", "above: 100, cooldown"))
    wait_until("the mistake is mended", lambda: alerted.status()["problem"] is None)
    assert alerted.installation.run("alerts", "validate").returncode == 0
    alerted.read("app-5", level=50)
    alerted.told("[resolved] level: app-5")
    alerted.rules.write_text(good)

    def fires_again() -> bool:
        alerted.read("app-5", level=50)
        return alerted.hook.titles.count("[warning] level: app-5") > 1

    wait_until("the file as it was is in force", fires_again)


def test_a_silence_keeps_quiet_and_its_end_does_not(alerted: Alerted) -> None:
    run = alerted.installation.run
    done = run(
        "alerts", "silence", "--for", "1h", "--device", "app-6", "--comment", "new disk", "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    silence = json.loads(done.stdout)["id"]
    alerted.read("app-6", level=50)

    def silenced() -> list[Any]:
        return [alert["silenced_by"] for alert in alerted.alerts() if alert["device"] == "app-6"]

    wait_until("it is silenced", lambda: silenced() == [silence])
    assert "new disk" in run("alerts", "silence").stdout
    assert "[warning] level: app-6" not in alerted.hook.titles
    assert run("alerts", "silence", "--end", silence[:13]).returncode == 0
    alerted.told("[warning] level: app-6")
    alerted.read("app-6", level=1)


def test_a_rule_is_tried_on_what_was(alerted: Alerted) -> None:
    alerted.read("app-7", level=50)
    alerted.told("[warning] level: app-7")
    alerted.read("app-7", level=1)
    alerted.told("[resolved] level: app-7")
    done = alerted.installation.run("alerts", "test", "level", "--since", "1h", "--format", "json")
    assert done.returncode == 0, done.stderr
    changes = [change for change in json.loads(done.stdout)["changes"] if change["device"] == "app-7"]
    assert [change["firing"] for change in changes] == [True, False]


def test_the_channels_can_be_tried(alerted: Alerted) -> None:
    done = alerted.installation.run("alerts", "notify-test")
    assert (done.returncode, done.stdout) == (0, "hook: taken\n"), done.stderr
    alerted.hook.works = False
    try:
        refused = alerted.installation.run("alerts", "notify-test", "hook")
    finally:
        alerted.hook.works = True
    assert refused.returncode == 1
    assert "channel hook: " in refused.stderr
    assert "127.0.0.1" not in refused.stderr or "json://" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("test", "nobody"), "has no rule 'nobody'; rules are level, slow"),
        (("ack", "ffffffff"), "no open alert begins with 'ffffffff'"),
        (("notify-test", "pager"), "has no channel 'pager'; channels are hook"),
        (("silence", "--device", "x"), "say for how long"),
        (("validate", "none.yaml"), "none.yaml cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_line(
    alerted: Alerted, words: tuple[str, ...], sentence: str
) -> None:
    done = alerted.installation.run("alerts", *words)
    assert done.returncode in {1, 2}
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_message_names_what_to_acknowledge_and_the_list_says_why_nobody_was_told(alerted: Alerted) -> None:
    alerted.hook.works = False
    try:
        alerted.read("app-9", level=50)

        def stuck() -> bool:
            done = alerted.installation.run("alerts", "list")
            assert done.returncode == 0, done.stderr
            return "channel hook does not take messages, and 1 wait for it" in done.stderr

        wait_until("it is said that the channel is stuck", stuck)
    finally:
        alerted.hook.works = True
    alerted.told("[warning] level: app-9")
    body = next(body["message"] for _, body in alerted.hook.told if body["title"].endswith("app-9"))
    named = body.rpartition("alert ")[2][:8]
    wait_until("nothing is in doubt", lambda: alerted.installation.run("alerts", "list").stderr == "")
    shown = alerted.installation.run("alerts", "list").stdout.splitlines()
    assert shown[0].startswith(f"{named}  warning, firing since ")
    assert shown[1] == "          level: app-9: 50, above 10"
    done = alerted.installation.run("alerts", "ack", named)
    assert done.stdout == "acknowledged: level app-9\n", done.stderr
    alerted.read("app-9", level=1)
    alerted.told("[resolved] level: app-9")


def test_the_urls_of_channels_are_in_no_log(alerted: Alerted) -> None:
    logs = alerted.installation.directory / ".crossfade/logs"
    assert "json://" not in "".join(Path(log).read_text() for log in logs.glob("*.log"))


DYING = """  - {name: silent, kind: absence, category: pulse, after: 4s, severity: critical}
  - {name: down, kind: state, metric: containers.status, states: [exited], for: 8s, inhibited_by: [silent]}
"""


def test_a_host_with_thirty_containers_dies_and_people_get_one_message(alerted: Alerted) -> None:
    def containers(status: str) -> tuple[str, str, Mapping[str, Any]]:
        listed = [
            {"name": f"c{number}", "status": status, "running": status == "running"} for number in range(30)
        ]
        return "host-30/containers", "containers_collected", {"available": True, "containers": listed}

    def firing() -> int:
        return int(alerted.status()["counts"].get("firing", 0))

    with alerted.ruled(DYING, 4):
        before = firing()
        pulse = ("host-30/pulse", "beat", {"alive": 1})
        # In one request, so that how long it is silent is the alerting process's to say and not the machine's.
        alerted.push([containers("running"), pulse, pulse, pulse, containers("exited")])
        alerted.told("[critical] silent: host-30")
        wait_until("all of it fires", lambda: firing() >= before + 31, 60)
        down = [
            alert for alert in alerted.alerts() if (alert["device"], alert["rule"]) == ("host-30", "down")
        ]
        assert [alert["inhibited_by"] for alert in down] == ["silent"] * 30
        alerted.read("app-10", level=50)
        alerted.told("[warning] level: app-10")  # whatever was due before has been told as well
        assert [title for title in alerted.hook.titles if "host-30" in title] == [
            "[critical] silent: host-30"
        ]
    alerted.read("app-10", level=1)


BURST, EVERY_SECONDS = 3, 30
FLAPPING = f"""  - {{name: flap, kind: threshold, metric: flap.all.level, above: 10, channels: [limited]}}
channels:
  - {{name: hook, url: 'URL', burst: 100}}
  - {{name: limited, url: 'URL', burst: {BURST}, every: {EVERY_SECONDS}s}}
"""


def test_targets_that_flap_make_a_bounded_number_of_messages(alerted: Alerted) -> None:
    devices, items = 10, 15
    level, readings, began = 0, 0, time.monotonic()

    def all_flap() -> bool:
        nonlocal level, readings
        level, readings = 50 - level, readings + devices * items
        entries = [{"name": f"i{item}", "level": level} for item in range(items)]
        alerted.push([(f"flap-{device}/flap", "sample", {"all": entries}) for device in range(devices)])
        flapping = [alert for alert in alerted.alerts() if alert["rule"] == "flap" and alert["flapping"]]
        return len(flapping) == devices * items

    before = alerted.rules.read_text()
    try:
        channels = before.index("channels:"), before.index("grouping:")
        without = before[: channels[0]] + before[channels[1] :]
        alerted.rules.write_text(
            without.replace("end: true", FLAPPING.replace("URL", alerted.hook.url) + "end: true")
        )
        wait_until("they are in force", lambda: alerted.status()["rules"] == 3)
        wait_until("all of them flap", all_flap, 200)
        wait_until("somebody was told", lambda: any("flap" in title for title in alerted.hook.titles), 60)
        told = sum("flap" in title for title in alerted.hook.titles)
        assert readings >= 7 * devices * items  # it flaps when it fires the fourth time
        assert told <= BURST + (time.monotonic() - began) / EVERY_SECONDS
    finally:
        alerted.rules.write_text(before)
