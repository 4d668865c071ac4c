"""The words on the pages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import pytest

from dashboard import figures, reports
from dashboard.alerts import Alert
from dashboard.applications import Application, Connections, Semaphore, Session
from dashboard.hub import Frame
from dashboard.model import Connection, HostView, Move, State
from dashboard.readings import Container, Disk, Host, Sample
from dashboard.views import containers, events, header, hosts, migration, overview, parity, sessions
from dashboard.views.words import escape
from monitoring.events import Event, StreamId, from_json
from monitoring.flags.model import ClientId, Flags
from monitoring.service import Backend

NOW = datetime(2026, 11, 21, 8, 0, 30, tzinfo=UTC)
SAMPLE = Sample(NOW - timedelta(seconds=2), 12.34, 40.0, 0.5, 1.5e6, None, 61.0)
DISKS = (Disk("/", "/dev/a", "ext4", 100e9, 61e9), Disk("/x", "/dev/b", "xfs", None, None))
HOST = Host("box_1", SAMPLE, 4, (2.0, 1.5, None), 8e9, 16e9, DISKS, 4_000, 2)
LIVE = Connection(backend=Backend.LEGACY, ever_live=True)
EMPTY = Frame(1, "viewer-1", Connection(), State(), reports.rollout(Flags(), None, "viewer-1"))
VIEW = HostView("box_1", HOST, (SAMPLE,))
FULL = replace(EMPTY, connection=LIVE, state=State(hosts={"box_1": VIEW}))


def event(seq: int, kind: str = "metric_collected", stream: str = "box-1/system", **payload: object) -> Event:
    return Event(UUID(int=seq), StreamId(stream), 1, seq, kind, NOW - timedelta(seconds=9 - seq), payload)


def test_a_host_says_what_it_is_and_how_it_is() -> None:
    assert hosts.subtitle(VIEW) == "4 cores · 16.0 GB memory · up 1 h 06 min"
    assert hosts.subtitle(HostView("x")) == "no reading yet"
    assert hosts.badge(VIEW, NOW).text == "Up"
    assert hosts.badge(VIEW, NOW + timedelta(minutes=1)).text == "Stale"
    assert hosts.badge(replace(VIEW, status="unreachable"), NOW + timedelta(minutes=1)).text == "Unreachable"
    assert hosts.badge(replace(VIEW, status="degraded"), NOW).text == "Degraded"
    assert hosts.badge(HostView("x"), NOW).text == "Unknown"


def test_hosts_are_rows() -> None:
    assert hosts.rows(EMPTY, NOW) == {}
    frame = replace(FULL, state=State(hosts={"box_1": VIEW, "silent": HostView("silent")}))
    rows = hosts.rows(frame, NOW)
    assert {len(column) for column in rows.values()} == {2}
    assert rows["Host"] == ["box_1", "silent"]
    assert rows["Status"] == ["up", "unknown"]
    assert rows["CPU"] == [12.3, None]
    assert rows["Containers"] == [figures.UNKNOWN, figures.UNKNOWN]
    assert rows["Reading"] == ["2 s", figures.UNKNOWN]


def test_a_sparkline_keeps_the_peaks() -> None:
    samples = [replace(SAMPLE, cpu_percent=100.0 if number == 150 else 1.0) for number in range(300)]
    line = hosts.recent(samples)
    assert len(line) == 60
    assert max(line) == 100.0


@pytest.mark.parametrize(
    ("connection", "now", "text"),
    [
        (LIVE, NOW, "Live · 2 s ago"),
        (Connection(), NOW, "Connecting"),
        (replace(LIVE, down_since=NOW), NOW, "Reconnecting · stale since "),
        (LIVE, NOW + timedelta(minutes=1), "Connected · stale since "),
        (replace(LIVE, refused=True), NOW, "Refused · stale since "),
    ],
)
def test_every_state_has_words_and_an_icon(connection: Connection, now: datetime, text: str) -> None:
    badge = header.state_badge(replace(FULL, connection=connection), now)
    assert badge.text.startswith(text)
    assert badge.icon.startswith(":material/")


def test_every_problem_of_a_feed_is_told_after_a_moment() -> None:
    late = replace(
        FULL, connection=replace(LIVE, down_since=NOW - timedelta(seconds=30), detail="no sign of life")
    )
    assert header.problems(late, NOW) == ["No feed for 30 s: no sign of life. Trying again."]


def test_a_live_feed_without_data_says_so() -> None:
    assert header.state_badge(replace(EMPTY, connection=LIVE), NOW).text == "Live · no reading yet"


def test_the_backend_badge_says_who_feeds_and_why() -> None:
    assert header.backend_badge(EMPTY).text == "No backend yet"
    assert header.backend_badge(FULL).text == "Fed by legacy · default"
    allowed = reports.rollout(Flags(allow=frozenset({ClientId("viewer-1")})), None, "viewer-1")
    moving = replace(FULL, rollout=allowed)
    assert header.backend_badge(moving).text == "Fed by legacy · flags want Supabase"
    there = replace(moving, connection=replace(LIVE, backend=Backend.SUPABASE))
    assert header.backend_badge(there).text == "Fed by Supabase · allow list"


def test_problems_say_what_to_do() -> None:
    assert header.problems(FULL, NOW) == []
    down = replace(FULL, connection=replace(LIVE, down_since=NOW - timedelta(seconds=2)))
    assert header.problems(down, NOW) == []  # a blip is no news
    assert header.problems(down, NOW + timedelta(seconds=20)) == [
        "No feed for 22 s: the backend does not answer. Trying again."
    ]
    assert "crossfade status" in header.problems(FULL, NOW + timedelta(minutes=1))[0]
    refused = replace(FULL, connection=replace(LIVE, refused=True, detail="legacy refused: key"))
    assert header.problems(refused, NOW) == [r"legacy refused\: key. `crossfade doctor` says what to do."]
    lost = replace(FULL, state=replace(FULL.state, lost=((NOW, 3),)))
    assert header.problems(lost, NOW)[0].startswith("3 events never reached")


def test_key_figures() -> None:
    shown = {figure.label: (figure.value, figure.note) for figure in hosts.key_figures(VIEW, {})}
    assert shown == {
        "CPU": ("12.3 %", "4 cores"),
        "Memory": ("40.0 %", "8.0 GB of 16.0 GB"),
        "Load per core": ("0.50", f"2.00 · 1.50 · {figures.UNKNOWN}"),
        "Network in": ("1.5 MB/s", "all interfaces"),
        "Network out": (figures.UNKNOWN, "all interfaces"),
        "Disk": ("61.0 %", "/ · 100 GB"),
    }
    assert {figure.value for figure in hosts.key_figures(None, {})} == {figures.UNKNOWN}


def test_charts_speak() -> None:
    assert hosts.alt(VIEW, "cpu") == "CPU over ten minutes, now 12.3 %"
    assert hosts.alt(HostView("x"), "cpu") == "cpu: no data yet"


def test_migration_card() -> None:
    allow = frozenset(ClientId(f"c{number}") for number in range(5))
    rollout = reports.rollout(Flags(weight=25_000, allow=allow), None, "viewer-1")
    rows = dict(migration.facts(replace(FULL, rollout=rollout)))
    assert rows["Allow · deny"] == "`c0`, `c1`, `c2` and 2 more · nobody"
    assert rows["Its place in the split"].endswith(" %")
    assert migration.share(rollout) == "**25 %** of clients on Supabase"
    killed = reports.rollout(Flags(kill=True), None, "")
    assert "Kill switch is on" in migration.share(killed)
    rows = dict(migration.facts(replace(FULL, rollout=killed)))
    assert rows["Kill switch"] == "**on**"
    assert rows["Its place in the split"] == "none: it has no id"


def test_moves_newest_first() -> None:
    ago = NOW - timedelta(seconds=12)
    moved = Move(
        done=True,
        from_backend=Backend.LEGACY,
        to_backend=Backend.SUPABASE,
        reason="the flags",
        at=ago,
        seconds=0.4,
    )
    stayed = replace(moved, done=False, reason="not ready", at=NOW)
    lines = migration.moves(replace(FULL, state=State(moves=(moved, stayed))), NOW)
    assert "stayed on legacy 0 s ago: not ready" in lines[0]
    assert "moved **legacy → Supabase** 12 s ago, 0 lost, took 400 ms: the flags" in lines[1]
    assert "no moves" in migration.moves(EMPTY, NOW)[0]


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ("PASS", "Pass"),
        ("FAIL", "Fail"),
        ("ERROR", "Error"),
        ("NO_DATA", "No data"),
        ("INCONCLUSIVE", "Inconclusive"),
    ],
)
def test_verdicts(verdict: str, text: str) -> None:
    result = reports.parity({"verdict": verdict, "ended_at": "2026-11-21T08:00:20Z"})
    assert isinstance(result, reports.Parity)
    assert parity.verdict(result, NOW).text == text
    assert parity.verdict(result, NOW + timedelta(minutes=3)).text == f"{text}, but old"
    assert parity.age(result, NOW) == "10 s ago"


def test_parity_figures() -> None:
    report = {
        "verdict": "FAIL",
        "decided": 100,
        "coverage": 0.995,
        "counts": {"matched": 97, "missing_supabase": 3, "duplicate": 0},
        "sides": {"legacy": {"latency": {"p50_seconds": 0.004, "p99_seconds": 0.02}}},
    }
    result = reports.parity(report)
    assert isinstance(result, reports.Parity)
    rows = dict(parity.facts(result))
    assert rows["Matched of decided"] == "**97** of 100"
    assert rows["Missing, different, double"] == "3 missing supabase"
    assert rows["Coverage"] == "99.50 %"
    assert rows["Legacy latency"] == "4.0 ms median · 20 ms p99"
    assert rows["Supabase latency"] == f"{figures.UNKNOWN} median · {figures.UNKNOWN} p99"
    assert parity.age(result, NOW) == ""


def test_no_comparison_says_why() -> None:
    assert "crossfade up" in parity.not_compared(None)
    assert parity.not_compared(reports.Waiting((Backend.SUPABASE,))).startswith("Waiting for Supabase:")
    assert parity.not_compared(reports.Waiting(())).startswith("Waiting for the first event:")


def test_disks() -> None:
    assert hosts.disks(HostView("x")) == {}
    columns = hosts.disks(VIEW)
    assert columns["Mount"] == ["/", "/x"]
    assert columns["Used"] == [61.0, None]
    assert columns["Free"] == ["39.0 GB", figures.UNKNOWN]


def test_containers() -> None:
    assert containers.rows(EMPTY) == {}
    assert containers.count(EMPTY) == ""
    two = (
        Container("1", "api", "shop", "running", None, 1.0, 5e6),
        Container("2", "b", "i", "exited", "unhealthy"),
    )
    frame = replace(
        FULL, state=State(hosts={"a": HostView("a", containers=two), "b": HostView("b", containers=two[:1])})
    )
    rows = containers.rows(frame)
    assert rows["Host"] == ["a", "a", "b"]
    assert rows["Health"] == [figures.UNKNOWN, "unhealthy", figures.UNKNOWN]
    assert rows["Memory"] == ["5.0 MB", figures.UNKNOWN, "5.0 MB"]
    assert containers.count(frame) == "2 of 3 running"
    assert containers.rows(frame, "b")["Name"] == ["api"]
    assert containers.rows(frame, text="SHOP")["Host"] == ["a", "b"]
    assert containers.rows(frame, "b", "nothing") == {}
    assert containers.unwell(frame) == 1


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (replace(EMPTY, docker_note="Docker is not there: no socket"), "Docker is not there: no socket"),
        (
            replace(EMPTY, state=State(hosts={"x": HostView("x", docker_available=False)})),
            "Docker is not there: its daemon does not answer.",
        ),
        (
            replace(EMPTY, state=State(hosts={"x": HostView("x", containers_at=NOW)})),
            "Docker answers and has no containers.",
        ),
        (EMPTY, "No containers have been reported yet."),
    ],
)
def test_an_empty_list_of_containers_says_why(frame: Frame, text: str) -> None:
    assert containers.none(frame)[1] == text


def test_events_are_filtered_newest_first_and_shown_as_they_were_sent() -> None:
    assert events.rows([], NOW) == {}
    feed = (event(1, cpu_usage=5.0), event(2, "stream_opened", "box-2/system"), event(3, note='says "hello"'))
    frame = replace(FULL, state=State(feed=feed))
    assert [each.seq for each in events.chosen(frame)] == [3, 2, 1]
    assert [each.seq for each in events.chosen(frame, kinds=["stream_opened"])] == [2]
    assert [each.seq for each in events.chosen(frame, devices=["box-1"])] == [3, 1]
    assert [each.seq for each in events.chosen(frame, text="HELLO")] == [3]
    assert events.kinds(frame) == ["metric_collected", "stream_opened"]
    assert events.devices(frame) == ["box-1", "box-2"]
    rows = events.rows(events.chosen(frame), NOW)
    assert rows["Age"] == ["6 s", "7 s", "8 s"]
    assert rows["Says"][2] == "cpu_usage:5.0"
    assert [
        from_json(orjson.loads(line)) for line in events.lines(events.chosen(frame)).splitlines()
    ] == list(feed)
    assert from_json(orjson.loads(events.envelope(feed[2]))) == feed[2]
    assert len(events.summary(event(1, text="x" * 500))) == 90


def test_the_overview_counts() -> None:
    app = Application(
        "shop",
        active_sessions=3.0,
        requests_per_second=12.5,
        connections={"redis": Connections(7, 1, NOW, 1.5), "http": Connections(2, 0, NOW)},
    )
    sick = Container("2", "mailer", "i", "restarting", "unhealthy")
    host = replace(VIEW, containers=(sick,), containers_at=NOW)
    down = replace(VIEW, name="old", status="down")
    state = State(hosts={"box_1": host, "old": down}, applications={"shop": app})
    frame = replace(FULL, state=state)
    shown = {each.label: (each.value, each.note) for each in overview.key_figures(frame, NOW)}
    assert shown["Hosts up"] == ("1 of 2", "1 down")
    assert shown["Containers"] == ("0 of 1", "1 unwell")
    assert shown["Events"] == ("0.0 /s", "last 30 s")
    assert shown["Sessions"] == ("3", "1 application")
    assert shown["Requests"] == ("12.5 /s", "of applications")
    assert shown["Connections"] == ("9", "seen here")
    assert {
        value
        for value, _ in list(
            {each.label: (each.value, each.note) for each in overview.key_figures(EMPTY, NOW)}.values()
        )[3:]
    } == {figures.UNKNOWN}
    assert overview.connections(frame, NOW)["Errors"] == [1, 0]
    assert overview.connections(EMPTY, NOW) == {}
    found = list(overview.troubles(frame, NOW))
    assert "**old** is down" in found[0]
    assert "**mailer** on box_1 is unhealthy" in found[1]
    since = NOW - timedelta(minutes=5)
    alert = Alert(
        *("a-1", "container-unhealthy", "box_1", "mailer", "warning", "firing"),
        firing=True, since=since, value="unhealthy", expected="", summary="", flapping=False, acknowledged_by="",
        told_at=NOW,
    )  # fmt: skip
    told = replace(frame, state=replace(state, alerts={alert.id: alert}))
    assert list(overview.troubles(told, NOW)) == [
        ":material/notifications: **container-unhealthy: box_1 mailer** for 5 min",
        found[0],
    ]
    taken = replace(frame, state=replace(state, alerts={alert.id: replace(alert, acknowledged_by="ann")}))
    assert list(overview.troubles(taken, NOW)) == [found[0]]
    full = replace(host, containers=(), newest=replace(HOST, disks=(replace(DISKS[0], used_bytes=95e9),)))
    assert "**/** on box_1 is 95.0 % full" in next(
        overview.troubles(replace(FULL, state=State(hosts={"box_1": full})), NOW)
    )


def test_sessions_and_semaphores() -> None:
    assert sessions.rows(EMPTY, NOW) == sessions.semaphores(EMPTY, NOW) == {}
    app = Application(
        "shop",
        sessions={
            "s-1": Session("s-1", {"user": "ann"}, NOW - timedelta(seconds=5)),
            "s-2": Session("s-2", {}, NOW),
        },
        semaphores={"db": Semaphore(10, 4, 0, NOW), "odd": Semaphore(None, 1, None, NOW)},
    )
    frame = replace(FULL, state=State(applications={"shop": app}))
    assert sessions.rows(frame, NOW)["Session"] == ["s-2", "s-1"]
    assert sessions.rows(frame, NOW)["Attributes"] == ["", "user: ann"]
    assert sessions.semaphores(frame, NOW)["In use"] == [40, None]


def test_foreign_text_is_not_markdown() -> None:
    assert escape("a_b *c* :d: $e$ [f](g)") == r"a\_b \*c\* \:d\: \$e\$ \[f\](g)"
