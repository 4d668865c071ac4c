"""What the dashboard looks up, in memory: a year of a wave, a rollout that stands in live 5 %, one kept comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from monitoring.capacity import PLANS, Load, to_json
from monitoring.control import ActionFailed
from monitoring.errors import InvalidRollout
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout import commands
from monitoring.rollout.observations import Answer, Decision, Gate, Observations, Sight
from monitoring.rollout.state import NONE, Policy, Position, Rollout
from monitoring.rollout.steering import RolloutStep

AGENT = {
    "name": "web-1",
    "version": "0.1.0",
    "heard": True,
    "heard_at": "2026-11-26T08:00:00+00:00",
    "open": 1,
    "offers": {
        "restart-shop": {
            "description": "restart one instance of the shop",
            "timeout_seconds": 120.0,
            "parameters": {
                "instance": {"choices": ["a", "b"]},
                "wait": {"minimum": 1, "maximum": 60, "default": "5"},
            },
        },
        "disk-usage": {
            "description": "how full a disk is",
            "timeout_seconds": 30.0,
            "parameters": {"path": {"max_characters": 100, "default": "/"}},
        },
    },
}
"""An agent as the control service tells of it."""
RULES = [
    {
        "name": "cpu-high",
        "kind": "threshold",
        "severity": "warning",
        "summary": "",
        "metric": "system.cpu_usage",
        "expected": "avg above 90",
        "clear": 75.0,
        "over_seconds": 300.0,
        "for_seconds": 0.0,
        "devices": ["*"],
        "items": ["*"],
        "inhibited_by": ["host-silent"],
        "notify": True,
        "channels": [],
    },
    {
        "name": "disk-full",
        "kind": "threshold",
        "severity": "warning",
        "summary": "make room",
        "metric": "system.disks.used_percent",
        "expected": "above 90",
        "for_seconds": 60.0,
        "devices": ["web-*", "!web-9"],
        "items": ["/"],
        "channels": ["ops"],
    },
]
"""Rules as an installation tells of them."""
FIELDS = [
    "cpu_usage",
    "memory_usage",
    "load[0]",
    "disks[/].used_bytes",
    "disk_io[vda].busy_percent",
    "disk_io[vda].read_bytes_per_second",
    "disk_io[vda].written_bytes_per_second",
    "networks[eth0].rx_bytes_per_second",
    "networks[eth0].tx_bytes_per_second",
    "networks[lo].rx_bytes_per_second",
    "pressure.cpu.some_avg10",
    "pressure.memory.some_avg10",
]
WISHES = {"default": Extent(Stage.LIVE, 100_000)}
GATES = (
    Gate("parity", Answer.PASS, "0 of 4,210 events are the new path's fault"),
    Gate("clients", Answer.PASS, "12 have shown something here, 1 are needed"),
)


def command(number: int, state: str, **more: Any) -> dict[str, Any]:
    """A command as the control service tells of it."""
    return {
        "id": f"0193a1b2-7a00-7000-8000-{number:012}",
        "agent": "web-1",
        "command": "restart-shop",
        "parameters": {"instance": "a", "wait": "5"},
        "state": state,
        "submitted_by": "ann",
        "submitted_at": f"2026-11-26T08:{number:02}:00+00:00",
        "changed_at": f"2026-11-26T08:{number:02}:05+00:00",
        "progress": None,
        "message": "",
        "exit_code": None,
        "output": "",
        "cancel_asked_by": None,
        "revision": 3,
        **more,
    }


def preview_report(rule: str, seconds: int) -> dict[str, Any]:
    """What ``crossfade alerts test RULE --format json`` prints: it fired once."""
    at = datetime(2026, 11, 26, 8, tzinfo=UTC)
    change = {
        "rule": rule,
        "device": "box-1",
        "item": "/",
        "state": "firing",
        "firing": True,
        "value": 93.41,
        "inhibited_by": None,
    }
    return {
        "rule": rule,
        "events": seconds // 2,
        "first": (at - timedelta(seconds=seconds)).isoformat(),
        "changes": [
            {**change, "since": at.isoformat()},
            {
                **change,
                "since": (at + timedelta(minutes=9)).isoformat(),
                "state": "ok",
                "firing": False,
                "value": 71.0,
            },
        ],
        "messages": [{"at": at.isoformat(), "title": f"[warning] {rule}: box-1 /", "body": "make room"}],
    }


def started() -> Rollout:
    """A rollout whose clients are at 5 % of stage live."""
    state, _ = commands.start(NONE, Policy(), Stage.SHADOW, WISHES)
    return state.moved("default", Position(Extent(Stage.LIVE, 5_000), number=3, dwelt=420.0))


class Steered:
    """A rollout that commands decide about, with the journal of what they decided."""

    def __init__(self) -> None:
        self.state = started()
        self.journal: list[dict[str, Any]] = []
        self.gates = GATES

    def decided(self, step: RolloutStep) -> tuple[Rollout, Sequence[Decision]]:
        seen = Observations(0.0, 0.0, WISHES, {"default": Sight(self.gates, clients=12, on_supabase=1)})
        try:
            match step.action:
                case "advance":
                    return commands.advance(self.state, seen, step.cohort, step.why)
                case "hold":
                    return commands.hold(self.state, step.why)
                case "resume":
                    return commands.resume(self.state, acknowledge=step.acknowledge, why=step.why)
                case "rollback":
                    return commands.rollback(self.state, step.to, step.why, step.cohort)
        except InvalidRollout as error:
            raise ActionFailed(str(error)) from error

    def keep(self, who: str, step: RolloutStep) -> Sequence[Decision]:
        self.state, decisions = self.decided(step)
        for each in decisions:
            self.journal.append(
                {
                    "n": len(self.journal) + 1,
                    "at": "2026-11-26T08:00:00+00:00",
                    "by": who,
                    "action": each.action,
                    "cohort": each.cohort,
                    "before": each.before,
                    "after": each.after,
                    "reason": each.reason,
                    "gates": [
                        {"name": gate.name, "answer": str(gate.answer), "reason": gate.reason}
                        for gate in self.gates
                    ],
                }
            )
        return decisions


class Kept:
    """Records that are all in memory. ``away`` makes the services that would be asked unreachable."""

    def __init__(self, steered: Steered | None = None) -> None:
        self.steered = steered or Steered()
        self.reports: dict[str, dict[str, Any]] = {}
        self.events: dict[tuple[str, int, int], dict[str, Any]] = {}
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[tuple[str, datetime, datetime]] = []
        self.grouped: list[tuple[str, list[str]]] = []
        self.listed_agents: list[dict[str, Any]] = []
        self.listed_commands: list[dict[str, Any]] = []
        self.rules_problem: str | None = None
        self.away = False

    def series(
        self, stream: str, field: str, start: datetime, end: datetime, points: int
    ) -> Mapping[str, Any]:
        self._answers()
        self.asked.append((field, start, end))
        step = (end - start).total_seconds() / points
        rows = [
            [start.timestamp() + place * step, 40 + 20 * math.sin(place / 9), 10.0, 80.0, 5]
            for place in range(points)
        ]
        return {"stream": stream, "field": field, "level": "1m", "step_seconds": step, "points": rows}

    def fields(self, stream: str) -> Sequence[str]:
        self._answers()
        return FIELDS

    def rows(self, table: str, order: str, limit: int, offset: int) -> Sequence[Mapping[str, Any]]:
        self._answers()
        return self.tables.get(table, [])[offset : offset + limit]

    def event(self, stream: str, epoch: int, seq: int) -> Mapping[str, Any] | None:
        self._answers()
        return self.events.get((stream, epoch, seq))

    def projects(self) -> Sequence[tuple[str, Sequence[str]]]:
        self._answers()
        return self.grouped

    def rollout(self) -> Mapping[str, Any]:
        state = self.steered.state
        cohorts = {
            name: {
                "wish": str(WISHES["default"]),
                "at": str(position.extent),
                "next": "live 10 %",
                "dwelt_seconds": position.dwelt,
                "held_by": "dwelt 420 of 900 s",
                "gates": [
                    {"name": gate.name, "answer": str(gate.answer), "reason": gate.reason} for gate in GATES
                ],
            }
            for name, position in state.cohorts.items()
        }
        sights = {"default": {"trip": "", "clients": 12, "on_supabase": 1, "astray": 0}}
        controller = {"cohorts": cohorts, "sights": sights, "completion": [], "problem": None}
        return {
            "n": 1,
            "state": state.to_json(),
            "controller": controller,
            "steps": {"default": ["live 10 %"]},
        }

    def decisions(self, most: int) -> Sequence[Mapping[str, Any]]:
        return self.steered.journal[: -most - 1 : -1]

    def capacity(self) -> Mapping[str, Any] | None:
        return to_json(Load(clients=12, streams=3, rate=1.5), PLANS["free"])

    def rules(self) -> Mapping[str, Any]:
        self._answers()
        return {
            "file": "/srv/shop/alerts.yaml",
            "problem": self.rules_problem,
            "rules": RULES,
            "channels": [],
        }

    def agents(self) -> Sequence[Mapping[str, Any]]:
        self._answers()
        return self.listed_agents

    def commands(self, most: int) -> Sequence[Mapping[str, Any]]:
        self._answers()
        return [{**each, "output": ""} for each in self.listed_commands[:most]]

    def command(self, id_: str) -> Mapping[str, Any]:
        self._answers()
        return next(each for each in self.listed_commands if each["id"] == id_)

    def runs(self, most: int) -> Sequence[tuple[str, Mapping[str, Any]]]:
        return list(self.reports.items())[:most]

    def run_page(self, name: str) -> str:
        return f"<!doctype html><title>{name}</title>"

    def _answers(self) -> None:
        if self.away:
            raise ActionFailed("http://127.0.0.1:8000/api/series does not answer: connection refused")
