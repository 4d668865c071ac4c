"""The words on the cards."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dashboard import cards, figures, reports
from dashboard.hub import Frame
from dashboard.model import Connection, Move, State
from dashboard.readings import Container, Disk, Host, Sample
from monitoring.flags.model import ClientId, Flags
from monitoring.service import Backend

NOW = datetime(2026, 11, 21, 8, 0, 30, tzinfo=UTC)
SAMPLE = Sample(NOW - timedelta(seconds=2), 12.34, 40.0, 0.5, 1.5e6, None, 61.0)
DISKS = (Disk("/", "/dev/a", "ext4", 100e9, 61e9), Disk("/x", "/dev/b", "xfs", None, None))
HOST = Host("box_1", SAMPLE, 4, (2.0, 1.5, None), 8e9, 16e9, DISKS, 4_000, 2)
LIVE = Connection(backend=Backend.LEGACY, ever_live=True)
EMPTY = Frame(1, "viewer-1", Connection(), State(), reports.rollout(Flags(), None, "viewer-1"))
FULL = replace(EMPTY, connection=LIVE, state=State(device="box-1", host=HOST, samples=(SAMPLE,)))


def test_titles() -> None:
    assert cards.title(EMPTY) == "Waiting for a host"
    assert cards.title(replace(EMPTY, state=State(device="box-1"))) == "box-1"
    assert cards.title(FULL) == "box_1"
    assert cards.subtitle(FULL) == "viewer `viewer-1` · host up 1 h 06 min"
    assert cards.subtitle(EMPTY) == "viewer `viewer-1`"


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
    badge = cards.state_badge(replace(FULL, connection=connection), now)
    assert badge.text.startswith(text)
    assert badge.icon.startswith(":material/")


def test_every_problem_of_a_feed_is_told_after_a_moment() -> None:
    late = replace(
        FULL, connection=replace(LIVE, down_since=NOW - timedelta(seconds=30), detail="no sign of life")
    )
    assert cards.problems(late, NOW) == ["No feed for 30 s: no sign of life. Trying again."]


def test_a_live_feed_without_data_says_so() -> None:
    assert cards.state_badge(replace(EMPTY, connection=LIVE), NOW).text == "Live · no reading yet"


def test_the_backend_badge_says_who_feeds_and_why() -> None:
    assert cards.backend_badge(EMPTY).text == "No backend yet"
    assert cards.backend_badge(FULL).text == "Fed by legacy · default"
    allowed = reports.rollout(Flags(allow=frozenset({ClientId("viewer-1")})), None, "viewer-1")
    moving = replace(FULL, rollout=allowed)
    assert cards.backend_badge(moving).text == "Fed by legacy · flags want Supabase"
    there = replace(moving, connection=replace(LIVE, backend=Backend.SUPABASE))
    assert cards.backend_badge(there).text == "Fed by Supabase · allow list"


def test_problems_say_what_to_do() -> None:
    assert cards.problems(FULL, NOW) == []
    down = replace(FULL, connection=replace(LIVE, down_since=NOW - timedelta(seconds=2)))
    assert cards.problems(down, NOW) == []  # a blip is no news
    assert cards.problems(down, NOW + timedelta(seconds=20)) == [
        "No feed for 22 s: the backend does not answer. Trying again."
    ]
    assert "crossfade status" in cards.problems(FULL, NOW + timedelta(minutes=1))[0]
    refused = replace(FULL, connection=replace(LIVE, refused=True, detail="legacy refused: key"))
    assert cards.problems(refused, NOW) == [r"legacy refused\: key. `crossfade doctor` says what to do."]
    lost = replace(FULL, state=replace(FULL.state, lost=((NOW, 3),)))
    assert cards.problems(lost, NOW)[0].startswith("3 events never reached")


def test_key_figures() -> None:
    shown = {figure.label: (figure.value, figure.note) for figure in cards.key_figures(FULL, {})}
    assert shown == {
        "CPU": ("12.3 %", "4 cores"),
        "Memory": ("40.0 %", "8.0 GB of 16.0 GB"),
        "Load per core": ("0.50", f"2.00 · 1.50 · {figures.UNKNOWN}"),
        "Network in": ("1.5 MB/s", "all interfaces"),
        "Network out": (figures.UNKNOWN, "all interfaces"),
        "Disk": ("61.0 %", "/ · 100 GB"),
    }
    assert {figure.value for figure in cards.key_figures(EMPTY, {})} == {figures.UNKNOWN}


def test_charts_speak() -> None:
    assert cards.alt(FULL, "cpu") == "CPU over ten minutes, now 12.3 %"
    assert cards.alt(EMPTY, "cpu") == "cpu: no data yet"


def test_migration_card() -> None:
    allow = frozenset(ClientId(f"c{number}") for number in range(5))
    rollout = reports.rollout(Flags(weight=25_000, allow=allow), None, "viewer-1")
    rows = dict(cards.migration(replace(FULL, rollout=rollout)))
    assert rows["Allow · deny"] == "`c0`, `c1`, `c2` and 2 more · nobody"
    assert rows["Its place in the split"].endswith(" %")
    assert cards.share(rollout) == "**25 %** of clients on Supabase"
    killed = reports.rollout(Flags(kill=True), None, "")
    assert "Kill switch is on" in cards.share(killed)
    rows = dict(cards.migration(replace(FULL, rollout=killed)))
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
    lines = cards.moves(replace(FULL, state=State(moves=(moved, stayed))), NOW)
    assert "stayed on legacy 0 s ago: not ready" in lines[0]
    assert "moved **legacy → Supabase** 12 s ago, 0 lost, took 400 ms: the flags" in lines[1]
    assert "no moves" in cards.moves(EMPTY, NOW)[0]


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
    parity = reports.parity({"verdict": verdict, "ended_at": "2026-11-21T08:00:20Z"})
    assert isinstance(parity, reports.Parity)
    assert cards.verdict(parity, NOW).text == text
    assert cards.verdict(parity, NOW + timedelta(minutes=3)).text == f"{text}, but old"
    assert cards.parity_age(parity, NOW) == "10 s ago"


def test_parity_figures() -> None:
    report = {
        "verdict": "FAIL",
        "decided": 100,
        "coverage": 0.995,
        "counts": {"matched": 97, "missing_supabase": 3, "duplicate": 0},
        "sides": {"legacy": {"latency": {"p50_seconds": 0.004, "p99_seconds": 0.02}}},
    }
    parity = reports.parity(report)
    assert isinstance(parity, reports.Parity)
    rows = dict(cards.parity(parity))
    assert rows["Matched of decided"] == "**97** of 100"
    assert rows["Missing, different, double"] == "3 missing supabase"
    assert rows["Coverage"] == "99.50 %"
    assert rows["Legacy latency"] == "4.0 ms median · 20 ms p99"
    assert rows["Supabase latency"] == f"{figures.UNKNOWN} median · {figures.UNKNOWN} p99"
    assert cards.parity_age(parity, NOW) == ""


def test_no_comparison_says_why() -> None:
    assert "crossfade up" in cards.not_compared(None)
    assert cards.not_compared(reports.Waiting((Backend.SUPABASE,))).startswith("Waiting for Supabase:")
    assert cards.not_compared(reports.Waiting(())).startswith("Waiting for the first event:")


def test_disks() -> None:
    assert cards.disks(EMPTY) == {}
    columns = cards.disks(FULL)
    assert columns["Mount"] == ["/", "/x"]
    assert columns["Used"] == [61.0, None]
    assert columns["Free"] == ["39.0 GB", figures.UNKNOWN]


def test_containers() -> None:
    assert cards.containers(EMPTY) == {}
    assert cards.container_count(EMPTY) == ""
    two = (
        Container("1", "a", "i", "running", None, 1.0, 5e6),
        Container("2", "b", "i", "exited", "unhealthy"),
    )
    frame = replace(FULL, state=State(containers=two))
    assert cards.containers(frame)["Health"] == [figures.UNKNOWN, "unhealthy"]
    assert cards.containers(frame)["Memory"] == ["5.0 MB", figures.UNKNOWN]
    assert cards.container_count(frame) == "1 of 2 running"


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (replace(EMPTY, docker_note="Docker is not there: no socket"), "Docker is not there: no socket"),
        (
            replace(EMPTY, state=State(docker_available=False)),
            "Docker is not there: its daemon does not answer.",
        ),
        (replace(EMPTY, state=State(containers_at=NOW)), "Docker answers and has no containers."),
        (EMPTY, "No containers have been reported yet."),
    ],
)
def test_an_empty_list_of_containers_says_why(frame: Frame, text: str) -> None:
    assert cards.no_containers(frame)[1] == text


def test_no_feed_yet() -> None:
    assert cards.feed(EMPTY, NOW) == {}


def test_foreign_text_is_not_markdown() -> None:
    assert cards.escape("a_b *c* :d: $e$ [f](g)") == r"a\_b \*c\* \:d\: \$e\$ \[f\](g)"
