"""What the server and the gateway measure of themselves, as Prometheus reads it: ``GET /metrics``.

The figures are those of ``GET /health`` and ``websocket_health``. What clients name themselves, their subscriptions, is no
label here: a client must not be able to make new time series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_TRAFFIC = {
    "connections": "Clients that have connected.",
    "link_connections": "Times a collector's link has connected.",
    "messages_sent": "Messages written to clients, each counted for each client.",
    "bytes_sent": "Bytes of WebSocket frames written to clients.",
    "messages_received": "Messages of clients that were read.",
    "malformed_messages": "Messages of clients that were refused.",
    "slow_clients_closed": "Clients closed because their queue ran full.",
    "events_taken": "Events that were news.",
    "events_restored": "Events that a restart had lost and the link brought back.",
    "duplicate_events": "Events that were there already.",
    "stale_events": "Events of an owner whose epoch has ended.",
    "rejected_events": "Events that could not be read or told.",
}
_COUNTERS = {**_TRAFFIC, "evicted_events": "Events dropped because the ring was full."}
_GAUGES = {
    "uptime_seconds": "Seconds since the server started.",
    "links": "Links connected now.",
    "filled": "Whether the link has brought its history: 1 or 0.",
    "streams": "Streams that are known.",
    "retained_events": "Events kept for replay.",
    "retained_bytes": "Bytes of their payloads, as JSON.",
    "waiting_messages": "Messages that wait to be written, over all clients.",
    "longest_queue": "Messages that wait for the client that is furthest behind.",
    "messages_per_second": "Messages sent a second, mean of the last minute.",
    "link_retries": "Failed attempts of the links that are connected, as they told.",
    "link_breaker_opened": "Times the breakers of these links opened, as they told.",
}
_MOVES = {
    "moves": "Connections moved from one backend to another.",
    "moves_abandoned": "Moves that were given up.",
    "gaps": "Gaps told by a backend.",
}


def exposed(families: Iterable[Metric], accept: str) -> tuple[str, bytes]:
    """Return content type and body in the form that the Accept header asks for; with those of the process itself."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


def of_server(health: Mapping[str, Any]) -> Iterator[Metric]:
    """Return the metrics of the legacy server from its health."""
    prefix = "crossfade_legacy"
    for name, told in _GAUGES.items():
        yield GaugeMetricFamily(f"{prefix}_{name}", told, value=float(health[name]))
    yield _labelled(f"{prefix}_clients", "Clients connected now.", "dialect", health["clients_by_dialect"])
    yield from _counters(prefix, _COUNTERS, health)


def of_gateway(health: Mapping[str, Any], backends: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    """Return the metrics of the gateway from its health, and of the backends from their counters.

    These are those of the adapters: ``reconnects``, ``connection_attempts``, ``breaker_state`` (0 closed, 1 half open,
    2 open) and what else each has.
    """
    prefix = "crossfade_gateway"
    for name in ("uptime_seconds", "waiting_messages", "longest_queue", "messages_per_second"):
        yield GaugeMetricFamily(f"{prefix}_{name}", _GAUGES[name], value=float(health[name]))
    for label in ("dialect", "backend"):
        told = f"Clients connected now, by {label}."
        yield _labelled(f"{prefix}_clients_by_{label}", told, label, health[f"clients_by_{label}"])
    yield from _counters(prefix, {**_TRAFFIC, **_MOVES}, health)
    backend = GaugeMetricFamily(
        f"{prefix}_backend", "What the connection to each backend counts.", labels=["backend", "figure"]
    )
    for name, counters in backends.items():
        for figure, value in counters.items():
            backend.add_metric([name, figure], value)
    yield backend


def _labelled(name: str, told: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, told, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def _counters(prefix: str, told: Mapping[str, str], health: Mapping[str, Any]) -> Iterator[Metric]:
    for name, text in told.items():
        yield CounterMetricFamily(f"{prefix}_{name}", text, value=health[name])


class _Given(Collector):
    """Families that are there already, as a registry wants them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families
