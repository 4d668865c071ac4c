"""What a service tells Prometheus: its own measurements, its components and pool; for one service, the installation's too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from monitoring import health
from services.provided import Shared
from services.vitals import Vitals

_COLLECTOR = {
    "read": ("reads", "Readings that succeeded."),
    "failed": ("failures", "Readings that failed."),
    "timed_out": ("timeouts", "Readings given up at their deadline."),
    "late": ("late", "Readings begun after their time."),
    "skipped": ("skipped", "Readings left out because the one before still ran."),
}


class _Registries(Collector):
    """A registry's families and others, as one."""

    def __init__(self, registry: CollectorRegistry, families: Iterable[Metric]) -> None:
        self._registry = registry
        self._families = families

    def collect(self) -> Iterable[Metric]:
        yield from self._registry.collect()
        yield from self._families


def exposed(
    vitals: Vitals, here: Shared, findings: Iterable[health.Finding], accept: str
) -> tuple[str, bytes]:
    """Return content type and body in the form that the Accept header asks for."""
    registry = CollectorRegistry(auto_describe=False)
    families = [*of_components(vitals.service, findings), *of_pool(vitals.service, here.database.pool())]
    families += of_queues(vitals.service, here.queues())
    if here.installation:
        report, age = here.reports.collect()
        families += [*of_parts(here.reports.parts()), *of_polling(report, age), *of_paths(report)]
    registry.register(_Registries(vitals.registry, families))
    encode, kind = choose_encoder(accept)
    return kind, encode(registry)


def of_components(service: str, findings: Iterable[health.Finding]) -> Iterator[Metric]:
    """Return whether each component is up, and how long it took to answer."""
    labels = ["service", "component"]
    up = GaugeMetricFamily("crossfade_component_up", "1 when a component does its work.", labels=labels)
    took = GaugeMetricFamily(
        "crossfade_component_latency_seconds", "Time a component took to answer.", labels=labels
    )
    for finding in findings:
        up.add_metric([service, finding.name], float(finding.ok))
        took.add_metric([service, finding.name], finding.latency_ms / 1000)
    yield from (up, took)


def of_pool(service: str, pool: Mapping[str, int] | None) -> Iterator[Metric]:
    """Return the connections of a service's pool."""
    family = GaugeMetricFamily(
        "crossfade_pool_connections", "Connections to the database.", labels=["service", "state"]
    )
    for state, count in (pool or {}).items():
        family.add_metric([service, state], count)
    yield family


def of_queues(service: str, queues: Mapping[str, int]) -> Iterator[Metric]:
    """Return what waits in a service."""
    family = GaugeMetricFamily("crossfade_queue_events", "Events that wait.", labels=["service", "queue"])
    for queue, count in queues.items():
        family.add_metric([service, queue], count)
    yield family


def of_parts(parts: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    """Return how the supervisor sees each part."""
    ready = GaugeMetricFamily("crossfade_part_ready", "1 while a part is ready.", labels=["part"])
    loop = GaugeMetricFamily("crossfade_part_crash_loop", "1 for a part that keeps ending.", labels=["part"])
    restarts = CounterMetricFamily(
        "crossfade_part_restarts", "Starts of a part after the first one.", labels=["part"]
    )
    for part in parts:
        name = [str(part.get("name"))]
        ready.add_metric(name, float(part.get("state") == "ready"))
        loop.add_metric(name, float(bool(part.get("crash_loop"))))
        restarts.add_metric(name, float(part.get("restarts") or 0))
    yield from (ready, loop, restarts)


def of_polling(report: Mapping[str, Any] | None, age_seconds: float | None) -> Iterator[Metric]:
    """Return the collectors' readings."""
    if report is None or age_seconds is None:
        return
    yield GaugeMetricFamily(
        "crossfade_polling_report_age_seconds", "Age of the collector's report.", value=age_seconds
    )
    collectors = health.polling(report, age_seconds)["collectors"]
    for count, (name, told) in _COLLECTOR.items():
        family = CounterMetricFamily(f"crossfade_collector_{name}", told, labels=["collector"])
        for collector, ticks in collectors.items():
            family.add_metric([collector], ticks[count])
        yield family
    failing = GaugeMetricFamily(
        "crossfade_collector_failing", "1 when the newest reading failed.", labels=["collector"]
    )
    for collector, ticks in collectors.items():
        failing.add_metric([collector], float(bool(ticks["last_error"])))
    yield failing


def of_paths(report: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Return the collector's spool, and the paths that empty it."""
    if report is None:
        return
    connected = GaugeMetricFamily("crossfade_path_connected", "1 while a path takes events.", labels=["path"])
    pending = GaugeMetricFamily(
        "crossfade_spool_pending_events", "Events on the spool that wait for a path.", labels=["path"]
    )
    for name, path in report.get("paths", {}).items():
        if path.get("enabled"):
            connected.add_metric([str(name)], float(bool(path.get("connected"))))
            pending.add_metric([str(name)], float(path.get("pending") or 0))
    spool = report.get("spool", {})
    yield from (connected, pending)
    yield GaugeMetricFamily("crossfade_spool_bytes", "Bytes in the spool.", value=spool.get("bytes") or 0)
    yield GaugeMetricFamily(
        "crossfade_spool_limit_bytes", "Bytes the spool may hold.", value=spool.get("limit_bytes") or 0
    )
    yield CounterMetricFamily(
        "crossfade_spool_refused_events", "Events the spool could not take.", value=spool.get("refused") or 0
    )
