"""What is measured reaches Prometheus: every figure, and nothing that a client could name."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from legacy_ws import metrics, stats
from tests.fakes.event_factory import START

HEALTH = stats.health(
    stats.Measurements(START, stats.Traffic(messages_sent=120, slow_clients_closed=2)),
    stats.Gauges(
        3, 1, 5, 40, 9_000, 2, True, waiting_messages=7, longest_queue=6, link_retries=4, link_breaker_opened=1,
        clients_by_dialect={"dashboard": 2, "stream": 1}, subscriptions={"stream": {"devices.web-1": 1}},
    ),
    START + timedelta(seconds=60),
)  # fmt: skip


def samples(families):
    _, text = metrics.exposed(families, "")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_every_figure_of_the_server_is_a_metric():
    read = samples(metrics.of_server(HEALTH))
    for name, count in asdict(stats.Traffic(messages_sent=120, slow_clients_closed=2)).items():
        assert read[f"crossfade_legacy_{name}_total",] == count
    elsewhere = {"clients", "evicted_events", "clients_by_dialect", "subscriptions"}
    for one in fields(stats.Gauges):
        if one.name not in elsewhere:
            assert read[f"crossfade_legacy_{one.name}",] == HEALTH[one.name]
    assert read["crossfade_legacy_evicted_events_total",] == 2
    assert read["crossfade_legacy_clients", "dashboard"] == 2
    assert read["crossfade_legacy_messages_per_second",] == 2.0
    assert "process_cpu_seconds_total" in {name for name, *_ in read}


def test_what_clients_subscribe_to_makes_no_time_series():
    _, text = metrics.exposed(metrics.of_server(HEALTH), "")
    assert b"web-1" not in text


def test_the_gateway_tells_what_its_backends_count():
    health = {
        **asdict(stats.Traffic(messages_sent=9)), "uptime_seconds": 1.5, "waiting_messages": 0, "longest_queue": 0,
        "messages_per_second": 6.0, "clients_by_dialect": {"metrics": 1}, "clients_by_backend": {"legacy": 1},
        "moves": 6, "moves_abandoned": 0, "gaps": 0,
    }  # fmt: skip
    read = samples(metrics.of_gateway(health, {"legacy": {"breaker_state": 2, "reconnects": 3}}))
    assert read["crossfade_gateway_moves_total",] == 6
    assert read["crossfade_gateway_messages_sent_total",] == 9
    assert read["crossfade_gateway_clients_by_backend", "legacy"] == 1
    assert read["crossfade_gateway_backend", "legacy", "breaker_state"] == 2
    assert read["crossfade_gateway_backend", "legacy", "reconnects"] == 3


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("", "text/plain"), ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text")],
)
def test_the_form_is_the_one_that_was_asked_for(accept, content_type):
    told, text = metrics.exposed(metrics.of_server(HEALTH), accept)
    assert told.startswith(content_type)
    assert text.endswith(b"# EOF\n") is (content_type == "application/openmetrics-text")


def test_throughput_is_the_mean_of_the_last_minute():
    one = stats.Throughput(START)
    assert one.per_second(0, START) == 0
    for second in range(1, 121):
        rate = one.per_second(10 * second, START + timedelta(seconds=second))
    assert rate == pytest.approx(10)
    for second in range(121, 200):
        rate = one.per_second(1200, START + timedelta(seconds=second))
    assert rate == 0


def test_traffic_of_connections_adds_up():
    total = stats.Traffic(messages_sent=1)
    total.add(stats.Traffic(messages_sent=2, bytes_sent=30))
    assert total == stats.Traffic(messages_sent=3, bytes_sent=30)
