"""The legacy server's health, in the forms that every service has."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import httpx

from legacy_ws.server import LegacyServer


async def test_a_server_without_a_link_lives_is_not_ready_and_says_what_is_missing(tmp_path: Path) -> None:
    report = tmp_path / "collect.json"
    async with (
        LegacyServer(token="t" * 32, port=0, polling_report=report) as server,
        httpx.AsyncClient(timeout=20) as http,
    ):
        at = f"http://127.0.0.1:{server.port}"
        assert (await http.get(f"{at}/health")).status_code == 200
        ready = await http.get(f"{at}/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "no source")
        told = (await http.get(f"{at}/health/detailed")).json()
        assert (told["service"], told["status"]) == ("legacy", "degraded")
        assert told["components"]["link"]["last_error"] == "no source"
        assert told["components"]["event_loop"]["status"] == "ok"

        assert (await http.get(f"{at}/health/polling")).json()["status"] == "off"
        report.write_text(json.dumps({"running": True, "collectors": {"web-1/system": {"read": 4}}}))
        polling = (await http.get(f"{at}/health/polling")).json()
        assert (polling["status"], polling["cycles"]["read"]) == ("ok", 4)
        old = time.time() - 100
        os.utime(report, (old, old))
        assert (await http.get(f"{at}/health/polling")).status_code == 503

        performance = (await http.get(f"{at}/metrics/performance")).json()
        assert performance["service"] == "legacy"
        assert performance["messages"]["messages_sent"] == 0
        assert performance["process"]["pid"] == os.getpid()
