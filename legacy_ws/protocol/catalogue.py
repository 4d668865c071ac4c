"""Every dialect by the name that settings call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from legacy_ws.protocol.containers import ContainerDialect
from legacy_ws.protocol.dashboard_dialect import DashboardDialect
from legacy_ws.protocol.dialect import Dialect
from legacy_ws.protocol.frontend import FrontendDialect
from legacy_ws.protocol.metrics import MetricsDialect, OldMetricsDialect
from legacy_ws.protocol.stream import StreamDialect


def catalogue(container_prefix: str = "") -> Mapping[str, Callable[[], Dialect]]:
    """Return what makes each dialect; ``container_prefix`` is left out of the containers' short names."""
    return {
        DashboardDialect.name: DashboardDialect,
        ContainerDialect.name: lambda: ContainerDialect(container_prefix),
        FrontendDialect.name: lambda: FrontendDialect(container_prefix),
        MetricsDialect.name: MetricsDialect,
        OldMetricsDialect.name: OldMetricsDialect,
        StreamDialect.name: StreamDialect,
    }
