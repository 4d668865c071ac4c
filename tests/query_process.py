"""The query service as a process of its own, over the embedded Supabase of the tests."""

from __future__ import annotations

from pathlib import Path

from tests.service_process import ServiceProcess


class QueryProcess(ServiceProcess):
    """Told of addresses where nothing listens: it needs PostgreSQL alone."""

    def __init__(
        self, data_dir: Path, dsn: str, flags: Path, *, legacy_link: str | None = None, **environment: str
    ) -> None:
        self.flags = flags
        options = [
            *("--flags", str(flags), "--supabase-url", "http://127.0.0.1:54321"),
            *("--legacy-url", "ws://127.0.0.1:8001/ws", "--mount", "analytics"),
            *(("--legacy-link", legacy_link) if legacy_link else ()),
        ]
        super().__init__("query", data_dir, dsn, *options, **environment)
