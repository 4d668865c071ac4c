"""A dashboard of its own for `streamlit run`: the real pages over what is in memory, with something on every page."""

from __future__ import annotations

import gc
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import streamlit as st

from dashboard import app, tabs
from dashboard.sources import Sources
from dashboard.viewers import Viewers
from monitoring.events import Event, StreamId
from monitoring.flags.loading import load
from monitoring.rollout.steering import RolloutStep
from tests.fakes.dashboard_records import AGENT, Kept, command
from tests.fakes.dashboard_service import (
    ReplayedService,
    alert_changed,
    clients_report,
    connected,
    event,
    parity_report,
    states_report,
)
from tests.fakes.operating import Acting

ALONE = "CROSSFADE_FAKE_ALONE"  # set in the environment: nothing but this machine
FLAGS = (Path(__file__).parents[2] / "flags.yaml").read_text()
_DRIVE = {
    "device": "/dev/sda",
    "model": "ST4000VN008",
    "serial": "ZDH0",
    "capacity_bytes": 4_000_787_030_016,
    "passed": True,
    "temperature_celsius": 34,
    "power_on_hours": 31_204,
    "warnings": ["an attribute was below its threshold in the past"],
    "attributes": [{"id": 5, "name": "Reallocated_Sector_Ct", "value": 100, "worst": 99, "raw": 8}],
}


def _more(now: datetime) -> list[Event]:
    check = {
        "check": "shop",
        "type": "http",
        "target": "https://shop.example.com/health",
        "ok": True,
        "latency_ms": 42.0,
    }
    session = {
        "session_id": "a8f3",
        "attributes": {"user": "ann"},
        "sessions": {"active_count": 3, "total_count": 41},
    }
    gauge = {"name": "reports", "limit": 8, "in_use": 5, "waiting": 1}
    connection = {"connection_type": "redis", "response_time_ms": 3.1}
    return [
        event(StreamId("box-1/drives"), 1, "metric_collected", now, {"drives": [_DRIVE]}),
        event(StreamId("box-1/checks"), 1, "check_completed", now, check),
        event(
            StreamId("box-1/checks"), 2, "check_status_changed", now, {"check": "shop", "new_status": "up"}
        ),
        event(StreamId("shop/sessions"), 1, "session_created", now, session),
        event(StreamId("shop/semaphores"), 1, "semaphore_gauge", now, gauge),
        event(StreamId("shop/connections"), 1, "connection_event", now, connection),
        alert_changed(),
    ]


def _report() -> dict[str, object]:
    now = datetime.now(UTC)
    found = parity_report(now, "FAIL")
    found["sides"] = {
        side: {
            **figures,
            "latency": {**figures["latency"], "histogram": [[0.001 * n, 100 - n] for n in range(1, 60)]},
        }  # type: ignore[index]  # plain JSON
        for side, figures in found["sides"].items()  # type: ignore[attr-defined]  # plain JSON
    }
    return {
        **found,
        "categories": {"system": {"matched": 12_000, "missing_supabase": 3}, "containers": {"matched": 6_402}},
        "timeline": {"seconds": 10, "rows": [{"at": 10 * n, "matched": 200 + n % 7, "missing_supabase": n % 11 == 0} for n in range(60)]},
        "samples": {"mismatch": [{"stream": "box-1/system", "epoch": 1, "seq": 7, "details": ["supabase payload.cpu_usage: expected 12, got 13"]}]},
        "not_compared": ["logs"],
        "clients": clients_report(),
        "states": states_report(),
    }  # fmt: skip


def _processes() -> dict[str, object]:
    names = ("postgres", "realtime", "query", "legacy", "collect", "parity", "rollout", "alerts", "dashboard")
    return {
        "updated_at": datetime.now(UTC).isoformat(),
        "parts": [
            {"name": name, "state": "ready", "seconds": 3600, "restarts": 0, "address": "127.0.0.1:8000"}
            for name in names
        ],
    }


def _alone() -> Viewers:
    """Return viewers where nothing has arrived but this machine, and nothing else was begun."""
    viewers = Viewers(
        Sources(
            connect=lambda _: connected(ReplayedService(history=30, with_containers=False)),
            flags=lambda: (load(FLAGS), None),
            parity=lambda: None,
            collect=lambda: None,
            processes=_processes,
            actions=Acting(FLAGS),
            records=Kept(),
        ),
        redraw=tabs.redraw,
    )
    viewers.start()
    return viewers


@st.cache_resource(on_release=Viewers.close, show_spinner=False)
def _viewers() -> Viewers:
    if os.environ.get(ALONE):
        return _alone()
    acting = Acting(FLAGS)
    acting.steered.keep("ann", RolloutStep("hold", "release day"))
    acting.steered.keep("ann", RolloutStep("resume", "released"))
    records = Kept(acting.steered)
    records.reports = {
        f"{datetime.now(UTC) - timedelta(hours=n):%Y%m%dT%H%M%SZ}-0a1b": _report() for n in range(3)
    }
    records.tables["cf_events"] = [
        {"stream": "box-1/system", "epoch": 1, "seq": n, "payload": {"cpu_usage": n}} for n in range(150)
    ]
    records.listed_agents = [AGENT]
    records.listed_commands = [
        command(
            2, "running", progress=40.0, message="waiting for connections to end", output="progress: 40%\n"
        ),
        command(1, "succeeded", exit_code=0, output="done\n"),
    ]
    service = ReplayedService(known=_more(datetime.now(UTC)))
    viewers = Viewers(
        Sources(
            connect=lambda _: connected(service),
            flags=lambda: (load(acting.text), None),
            parity=_report,
            collect=lambda: None,
            processes=_processes,
            actions=acting,
            records=records,
        ),
        redraw=tabs.redraw,
    )
    viewers.start()
    return viewers


@st.cache_resource(show_spinner=False)
def _settle() -> None:
    gc.collect()
    gc.freeze()


app.configure()
app.draw(_viewers())
_settle()
