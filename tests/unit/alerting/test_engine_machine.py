"""Whatever happens in whatever order, over restarts, channels that fail and rules that change: what people are told holds."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alerting.engine import Engine
from alerting.lifecycle import State
from alerting.notices import Message
from alerting.rule_file import load
from alerting.rules import Rules
from alerting.store import Store
from monitoring.cursor import Cursor
from tests.fakes.alert_events import at, containers, cpu, told

RULES = """version: 1
channels:
  - {name: ops, url: json://localhost, burst: 3, every: 20s}
grouping: {wait: 1s, interval: 5s}
rules:
  - {name: silent, kind: absence, category: system, after: 20s}
  - {name: cpu, kind: threshold, metric: system.cpu_usage, above: 90, clear: 80, for: 4s, cooldown: 30s, inhibited_by: [silent]}
  - {name: down, kind: state, metric: containers.status, states: [exited], cooldown: 15s, inhibited_by: [silent]}
  - {name: both, kind: composite, all: [cpu, down], cooldown: 15s}
end: true
"""
COOLDOWN = {"silent": 600, "cpu": 30, "down": 15, "both": 15}
DEVICES = st.sampled_from(["web-1", "web-2"])


class Alerts(RuleBasedStateMachine):
    """What is told is parsed from the messages themselves, as people read them."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.rules: Rules = load(RULES)
        self.engine = Engine(self.rules)
        self.now = 0.0
        self.delivered: list[Message] = []
        self.open: dict[str, float] = {}
        self.last_told: dict[str, float] = {}
        self.works = True

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.directory.cleanup()
        # Everything is well again, for long: whoever was told of something was told that it is over.
        self.works = True
        for _ in range(200):
            self.well()
            self.wait(10)
        assert self.open == {}
        assert [alert for alert in self.engine.memory.alerts.values() if alert.state is not State.OK] == []

    def well(self) -> None:
        for device in ("web-1", "web-2"):
            self.engine.observe(cpu(device, self.now, 1), at(self.now))
            self.engine.observe(containers(device, self.now, {"a": "running", "b": "running"}), at(self.now))

    @rule(device=DEVICES, usage=st.sampled_from([1.0, 85.0, 95.0]))
    def read(self, device: str, usage: float) -> None:
        self.engine.observe(cpu(device, self.now, usage), at(self.now))

    @rule(device=DEVICES, late=st.integers(0, 40))
    def read_late(self, device: str, late: int) -> None:
        self.engine.observe(cpu(device, self.now - late, 95), at(self.now))

    @rule(
        device=DEVICES,
        statuses=st.dictionaries(st.sampled_from("ab"), st.sampled_from(["running", "exited"])),
    )
    def list_containers(self, device: str, statuses: dict[str, str]) -> None:
        self.engine.observe(containers(device, self.now, statuses), at(self.now))

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 7.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.engine.advance(at(self.now))
        for message in list(self.engine.messages(at(self.now))):
            self.engine.settle(message, at(self.now), None if self.works else "refused")
            if self.works:
                self._told(message)

    def _told(self, message: Message) -> None:
        self.delivered.append(message)
        for word, target in told([message]):
            name = target.split(" ")[0]
            if word == "RESOLVED":
                assert target in self.open, f"{target} is resolved and was never told"
                del self.open[target]
            else:
                assert target not in self.open, f"{target} is told twice"
                self.open[target] = self.now
                self.last_told[target] = self.now
                assert name in COOLDOWN

    @rule(works=st.booleans())
    def channel(self, *, works: bool) -> None:
        self.works = works

    @rule()
    def restart(self) -> None:
        """As after kill -9: from the file, into a new process."""
        with Store.open(Path(self.directory.name) / "alerts.db") as store:
            store.save(self.engine.memory, self.engine.dirty, Cursor(), self.engine.take_changes())
            memory, _ = store.load()
        before = self.engine.memory
        assert memory.alerts == before.alerts
        assert memory.backlogs == before.backlogs
        assert memory.windows == before.windows
        self.engine = Engine(self.rules, memory)

    @precondition(lambda self: self.works)
    @rule()
    def use_the_rules_again(self) -> None:
        self.engine.use(load(RULES), at(self.now))

    @invariant()
    def what_fires_has_held(self) -> None:
        for alert in getattr(self, "engine", Engine(Rules())).memory.alerts.values():
            if alert.key.rule == "cpu" and alert.firing:
                assert alert.fired_at is not None
                assert alert.started_at is not None
                assert alert.fired_at - alert.started_at >= timedelta(seconds=4)

    @invariant()
    def messages_are_bounded(self) -> None:
        if hasattr(self, "delivered"):
            assert len(self.delivered) <= 3 + self.now / 20 + 1

    @invariant()
    def one_message_a_channel_waits(self) -> None:
        if hasattr(self, "engine"):
            for backlog in self.engine.memory.backlogs.values():
                assert len(backlog.lines) <= len(self.engine.memory.alerts)


TestAlerts = Alerts.TestCase
TestAlerts.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
