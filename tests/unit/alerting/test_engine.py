"""The engine: what readings and time make of rules."""

from __future__ import annotations

from typing import Any

from alerting.engine import Engine, Memory
from alerting.lifecycle import Key, State
from alerting.notices import Message
from alerting.rule_file import load
from tests.fakes.alert_events import at, containers, cpu, event, told

CHANNEL = "channels:\n  - name: ops\n    url: json://localhost\n"


def engine(rules: str, memory: Memory | None = None, *, extra: str = "") -> Engine:
    return Engine(load(f"version: 1\n{CHANNEL}{extra}rules:\n{rules}\nend: true\n"), memory)


def deliver(alerts: Engine, seconds: float, *, live: bool = True) -> list[Message]:
    """Let a moment pass, and deliver what is due."""
    alerts.advance(at(seconds), live=live)
    messages = list(alerts.messages(at(seconds)))
    for message in messages:
        alerts.settle(message, at(seconds))
    return messages


def run(alerts: Engine, start: float, end: float, *, live: bool = True) -> list[Message]:
    """Let every half second of a stretch of time pass; return what was delivered."""
    sent = []
    steps = int((end - start) * 2)
    for step in range(steps + 1):
        sent += deliver(alerts, start + step / 2, live=live)
    return sent


CPU = "  - {name: cpu, kind: threshold, metric: system.cpu_usage, above: 90, clear: 80}"
DOWN = "  - {name: down, kind: state, metric: containers.status, states: [exited], inhibited_by: [silent]}"
SILENT = "  - {name: silent, kind: absence, category: system, after: 20s, severity: critical}"


def alive(alerts: Engine, device: str, seconds: float) -> None:
    """Let a host be heard of, twice."""
    for moment in (seconds - 2, seconds):
        alerts.observe(cpu(device, moment, 5), at(moment))


def test_a_breach_is_told_a_second_later_and_its_resolve_too() -> None:
    alerts = engine(CPU, extra="grouping: {interval: 2s}\n")
    alerts.observe(cpu("web-1", 0, 95), at(0))
    assert deliver(alerts, 0) == []
    assert told(deliver(alerts, 1)) == [("FIRING", "cpu web-1")]
    alerts.observe(cpu("web-1", 2, 85), at(2))  # between: neither
    assert run(alerts, 2, 10) == []
    alerts.observe(cpu("web-1", 11, 79), at(11))
    (message,) = run(alerts, 11, 20)
    assert (message.title, message.resolved) == ("[resolved] cpu: web-1", True)


def test_the_message_says_value_limit_and_severity_and_what_to_acknowledge() -> None:
    alerts = engine(CPU)
    alerts.observe(cpu("web-1", 0, 95.5), at(0))
    (message,) = run(alerts, 0, 1)
    (shown,) = alerts.overview(at(1))["alerts"]
    assert message.title == "[warning] cpu: web-1"
    assert message.body == (
        "FIRING warning cpu web-1: system.cpu_usage is 95.5, above 90 "
        f"(2026-11-26 12:00:00 UTC, alert {shown['id'][:8]})"
    )


def test_what_must_hold_for_a_while_is_pending_and_fires_by_time_alone() -> None:
    alerts = engine(CPU.replace("clear: 80", "for: 10s"))
    alerts.observe(cpu("web-1", 0, 95), at(0))
    assert run(alerts, 0, 9) == []
    assert alerts.overview(at(9))["counts"] == {"pending": 1, "firing": 0, "no_data": 0}
    assert told(run(alerts, 10, 12)) == [("FIRING", "cpu web-1")]


def test_what_does_not_hold_is_never_told() -> None:
    alerts = engine(CPU.replace("clear: 80", "for: 10s"))
    for second in range(60):
        alerts.observe(cpu("web-1", second, 95 if second % 8 else 10), at(second))
        assert deliver(alerts, second) == []


def test_a_window_speaks_only_when_it_is_covered() -> None:
    alerts = engine(CPU.replace("clear: 80", "over: 30s"))
    for second in range(0, 26, 2):
        alerts.observe(cpu("web-1", second, 100), at(second))
    assert run(alerts, 25, 26) == []
    for second in range(26, 40, 2):
        alerts.observe(cpu("web-1", second, 100), at(second))
    assert told(run(alerts, 40, 42)) == [("FIRING", "cpu web-1")]


def test_a_rate_counts_on_over_a_restart_of_the_counter() -> None:
    alerts = engine("  - {name: fast, kind: rate, metric: app.hits, above: 9, over: 10s}")
    value = 0
    for second in range(13):
        value = value + 10 if second != 6 else 10
        alerts.observe(event("app-1/app", "counted", second, {"hits": value}), at(second))
    assert told(run(alerts, 13, 15)) == [("FIRING", "fast app-1")]
    assert 9 < float(alerts.memory.alerts[Key("fast", "app-1", "")].value or 0) < 11


def test_a_silent_host_is_missed_and_comes_back() -> None:
    alerts = engine(SILENT)
    alive(alerts, "web-1", 0)
    assert run(alerts, 0, 19) == []
    assert told(run(alerts, 20, 22)) == [("FIRING", "silent web-1")]
    alerts.observe(cpu("web-1", 60, 5), at(60))
    assert told(run(alerts, 60, 62)) == [("RESOLVED", "silent web-1")]


def test_a_host_that_is_polled_seldom_is_not_missed_before_three_of_its_intervals() -> None:
    alerts = engine(SILENT)
    for second in (0, 300):
        alerts.observe(cpu("web-1", second, 5), at(second))
        unknown = event("web-1/system", "device_status_changed", second, {"new_status": "unknown"})
        alerts.observe(unknown, at(second))
    assert run(alerts, 300, 1199) == []
    assert told(run(alerts, 1200, 1202)) == [("FIRING", "silent web-1")]


def test_a_host_that_was_heard_of_once_is_missed_after_ten_minutes() -> None:
    alerts = engine(SILENT)
    alerts.observe(cpu("web-1", 0, 5), at(0))
    assert run(alerts, 0, 599) == []
    assert told(run(alerts, 600, 602)) == [("FIRING", "silent web-1")]


def test_nobody_is_missed_while_our_own_feed_is_down() -> None:
    alerts = engine(SILENT)
    alive(alerts, "web-1", 0)
    assert run(alerts, 0, 300, live=False) == []
    assert run(alerts, 301, 320) == []
    assert told(run(alerts, 321, 323)) == [("FIRING", "silent web-1")]


def test_a_host_with_thirty_containers_dies_one_message() -> None:
    alerts = engine(
        f"{SILENT}\n{DOWN.replace('states: [exited]', 'states: [exited], for: 30s')}\n"
        "  - {name: quiet, kind: absence, category: containers, after: 20s, inhibited_by: [silent]}"
    )
    names = [f"c{number}" for number in range(30)]
    alive(alerts, "web-1", 0)
    alerts.observe(containers("web-1", 0, dict.fromkeys(names, "running")), at(0))
    alerts.observe(containers("web-1", 2, dict.fromkeys(names, "exited")), at(2))
    alerts.observe(cpu("web-1", 3, 5), at(3))
    messages = run(alerts, 3, 200)
    assert [message.title for message in messages] == ["[critical] silent: web-1"]
    assert alerts.overview(at(200))["counts"]["firing"] == 32
    inhibited = [alert for alert in alerts.overview(at(200))["alerts"] if alert["inhibited_by"] == "silent"]
    assert len(inhibited) == 31
    assert run(alerts, 200, 600) == []

    alerts.observe(cpu("web-1", 601, 5), at(601))
    alerts.observe(containers("web-1", 610, dict.fromkeys(names, "running")), at(610))
    assert [message.title for message in run(alerts, 610, 620)] == ["[resolved] silent: web-1"]


def test_docker_that_dies_without_its_host_is_one_message_of_thirty() -> None:
    alerts = engine(f"{SILENT}\n{DOWN}")
    alerts.observe(containers("web-1", 0, {f"c{number}": "exited" for number in range(30)}), at(0))
    (message,) = run(alerts, 0, 10)
    assert message.title == "[warning] down: 30 firing on web-1"
    assert message.body.splitlines()[-1] == "... and 10 more: crossfade alerts list"


def test_a_container_that_is_removed_is_resolved_and_forgotten() -> None:
    alerts = engine(DOWN.replace(", inhibited_by: [silent]", ""), extra="grouping: {interval: 1s}\n")
    alerts.observe(containers("web-1", 0, {"a": "exited", "b": "running"}), at(0))
    run(alerts, 0, 2)
    alerts.observe(containers("web-1", 3, {"b": "running"}), at(3))
    assert told(run(alerts, 3, 6)) == [("RESOLVED", "down web-1 a")]
    unreachable = event("web-1/containers", "containers_collected", 7, {"available": False, "containers": []})
    alerts.observe(unreachable, at(7))
    assert Key("down", "web-1", "b") in alerts.memory.alerts


def test_a_change_of_status_is_told_without_waiting_for_the_next_list() -> None:
    alerts = engine(
        DOWN.replace("states: [exited], inhibited_by: [silent]", "states: [exited], was: [running]")
    )
    change = {"container": {"name": "a"}, "current": {"status": "exited", "health": None, "running": False}}
    alerts.observe(containers("web-1", 0, {"a": "running", "old": "exited"}), at(0))
    alerts.observe(event("web-1/containers", "container_status_changed", 1, change), at(1))
    alerts.observe(containers("web-1", 2, {"a": "exited", "old": "exited"}), at(2))
    assert told(run(alerts, 2, 10)) == [("FIRING", "down web-1 a")]


def test_a_composite_fires_when_its_parts_do_and_they_are_silent() -> None:
    alerts = engine(
        CPU.replace("clear: 80", "notify: false")
        + "\n  - {name: mem, kind: threshold, metric: system.memory_usage, above: 90, notify: false}"
        + "\n  - {name: both, kind: composite, all: [cpu, mem]}"
    )
    alerts.observe(cpu("web-1", 0, 95), at(0))
    assert run(alerts, 0, 5) == []
    alerts.observe(event("web-1/system", "metric_collected", 6, {"cpu_usage": 95, "memory_usage": 95}), at(6))
    assert told(run(alerts, 6, 8)) == [("FIRING", "both web-1")]
    alerts.observe(
        event("web-1/system", "metric_collected", 40, {"cpu_usage": 5, "memory_usage": 95}), at(40)
    )
    assert told(run(alerts, 40, 42)) == [("RESOLVED", "both web-1")]


def test_readings_that_stay_away_are_a_state_of_their_own() -> None:
    alerts = engine(f"{CPU.replace('clear: 80', 'no_data: notify, no_data_after: 30s')}")
    alerts.observe(cpu("web-1", 0, 5), at(0))
    assert told(run(alerts, 0, 33)) == [("NO", "cpu web-1")]
    assert alerts.memory.alerts[Key("cpu", "web-1", "")].state is State.NO_DATA
    alerts.observe(cpu("web-1", 80, 5), at(80))
    assert told(run(alerts, 80, 90)) == [("RESOLVED", "cpu web-1")]


def test_an_alert_whose_readings_stay_away_goes_on_firing() -> None:
    alerts = engine(CPU.replace("clear: 80", "no_data_after: 30s"))
    alerts.observe(cpu("web-1", 0, 95), at(0))
    assert len(run(alerts, 0, 100)) == 1
    assert alerts.memory.alerts[Key("cpu", "web-1", "")].firing
    alerts.observe(cpu("web-1", 101, 95), at(101))
    assert run(alerts, 101, 110) == []
    alerts.observe(cpu("web-1", 111, 5), at(111))
    assert told(run(alerts, 111, 113)) == [("RESOLVED", "cpu web-1")]


def test_what_fires_again_within_its_cooldown_is_told_when_that_is_over_if_it_still_fires() -> None:
    alerts = engine(CPU.replace("clear: 80", "cooldown: 60s"), extra="grouping: {interval: 1s}\n")
    alerts.observe(cpu("web-1", 0, 95), at(0))
    run(alerts, 0, 5)
    alerts.observe(cpu("web-1", 5, 5), at(5))
    run(alerts, 5, 10)
    alerts.observe(cpu("web-1", 10, 95), at(10))
    assert run(alerts, 10, 60) == []
    assert told(run(alerts, 60.5, 65)) == [("FIRING", "cpu web-1")]


def test_a_thousand_flapping_targets_make_few_messages() -> None:
    alerts = engine(CPU)
    sent: list[Message] = []
    changes = 0
    for second in range(0, 300, 2):
        for device in range(1000):
            alerts.observe(cpu(f"web-{device}", second, 95 if second % 4 else 5), at(second))
        sent += deliver(alerts, second)
        changes += len(alerts.take_changes())
    assert sum(message.lines for message in sent) == 1000
    # What flaps is one long alert, and so many devices at once are one message.
    assert len(sent) == 1
    assert changes <= 1000 * 8, "each target fires four times, and then holds"


def test_what_is_silenced_is_told_when_the_silence_is_over() -> None:
    alerts = engine(CPU)
    alerts.observe(silence("web-*", 0, 60), at(0))
    alerts.observe(cpu("web-1", 1, 95), at(1))
    alerts.observe(cpu("db-1", 1, 95), at(1))
    assert told(run(alerts, 1, 59)) == [("FIRING", "cpu db-1")]
    assert told(run(alerts, 60, 62)) == [("FIRING", "cpu web-1")]


def test_a_silence_can_be_ended() -> None:
    alerts = engine(CPU)
    alerts.observe(silence("*", 0, 600), at(0))
    alerts.observe(cpu("web-1", 1, 95), at(1))
    assert run(alerts, 1, 30) == []
    ended = {"id": "01938f3e-7a00-7000-8000-000000000001", "by": "ann"}
    alerts.observe(event("crossfade/alert-requests", "alert_silence_ended", 31, ended), at(31))
    assert told(run(alerts, 31, 33)) == [("FIRING", "cpu web-1")]


def silence(device: str, start: float, end: float) -> Any:
    payload = {
        "id": "01938f3e-7a00-7000-8000-000000000001",
        "devices": [device],
        "starts_at": at(start).isoformat(),
        "ends_at": at(end).isoformat(),
        "by": "ann",
    }
    return event("crossfade/alert-requests", "alert_silenced", start, payload)


def test_a_maintenance_window_silences_each_day() -> None:
    window = "maintenance:\n  - {name: backup, start: 2026-11-01T12:00:00Z, lasts: 1m, repeat: daily}\n"
    alerts = engine(CPU, extra=window)
    alerts.observe(cpu("web-1", 1, 95), at(1))
    assert run(alerts, 1, 59) == []
    assert alerts.overview(at(59))["alerts"][0]["silenced_by"] == "backup"
    assert told(run(alerts, 60, 62)) == [("FIRING", "cpu web-1")]


def test_what_is_acknowledged_says_by_whom_and_is_told_only_when_it_is_over() -> None:
    alerts = engine(CPU)
    alerts.observe(cpu("web-1", 0, 95), at(0))
    run(alerts, 0, 2)
    (shown,) = alerts.overview(at(2))["alerts"]
    request = {"alert_id": shown["id"], "by": "ann"}
    alerts.observe(event("crossfade/alert-requests", "alert_acknowledged", 3, request), at(3))
    assert alerts.take_changes()[-1]["acknowledged_by"] == "ann"
    alerts.observe(cpu("web-1", 40, 5), at(40))
    assert told(run(alerts, 40, 42)) == [("RESOLVED", "cpu web-1")]


def test_an_episode_has_one_id_from_its_firing_to_its_resolve_and_the_next_has_another() -> None:
    alerts = engine(CPU)
    for second, usage in ((0, 95), (10, 5), (20, 95)):
        alerts.observe(cpu("web-1", second, usage), at(second))
        run(alerts, second, second + 2)
    first, resolved, second_one = (change["id"] for change in alerts.take_changes())
    assert first == resolved != second_one


def test_rules_that_go_resolve_their_alerts_and_those_that_stay_keep_them() -> None:
    alerts = engine(f"{CPU}\n{SILENT}", extra="grouping: {interval: 1s}\n")
    alive(alerts, "web-1", -2)
    alerts.observe(cpu("web-1", 0, 95), at(0))
    assert told(run(alerts, 0, 30)) == [("FIRING", "cpu web-1"), ("FIRING", "silent web-1")]
    alerts.use(engine(SILENT).rules, at(31))
    (message,) = run(alerts, 31, 70)
    assert told([message]) == [("RESOLVED", "cpu web-1")]
    assert "its rule is gone" in message.body
    assert [key.rule for key in alerts.memory.alerts] == ["silent"]


def test_targets_without_end_are_refused_and_counted() -> None:
    alerts = engine(DOWN.replace(", inhibited_by: [silent]", ""))
    for batch in range(6):
        names = {f"c{batch}-{number}": "running" for number in range(600)}
        for host in range(2):
            alerts.observe(containers(f"h{batch}-{host}", 0, names), at(0))
    assert len(alerts.memory.alerts) == 5_000
    assert alerts.refused == 2_200


def test_a_rule_sees_only_the_devices_and_items_it_names() -> None:
    alerts = engine(DOWN.replace("inhibited_by: [silent]", 'devices: ["web-*", "!web-9"], items: [a]'))
    for device in ("web-1", "web-9", "db-1"):
        alerts.observe(containers(device, 0, {"a": "exited", "b": "exited"}), at(0))
    assert told(run(alerts, 0, 5)) == [("FIRING", "down web-1 a")]


def test_a_word_where_a_number_is_expected_changes_nothing() -> None:
    alerts = engine(CPU)
    alerts.observe(event("web-1/system", "metric_collected", 0, {"cpu_usage": "a lot"}), at(0))
    alerts.observe(event("web-1/system", "metric_collected", 1, {"cpu_usage": None, "disks": "none"}), at(1))
    assert run(alerts, 0, 10) == []
