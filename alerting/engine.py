"""The engine: events and times in, alerts, changes and messages out. Pure: it owns its state and does nothing else.

Readings move alerts at once; `advance`, called every moment or so, does what only time decides: what is pending fires,
what stays away is missed, what is to be told is told. The order of `observe` and `advance` is all that decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from alerting import conditions, lifecycle, notices
from alerting.causes import Causes
from alerting.document import document, episode
from alerting.lifecycle import Alert, Key, State, Verdict
from alerting.readings import ALERTS, REQUESTS, Observation, observe
from alerting.rules import Absence, Composite, NoData, Rate, Rule, Rules, Severity, StateRule, Threshold
from alerting.silences import Silence, in_maintenance, silence_of
from alerting.windows import Window
from monitoring.events import OWN_DEVICE, Event, Kind, category_of, device_of

MOST_TARGETS = 5_000
"""Targets of one rule; what is beyond is not watched, and counted."""
SHOWN = 200
"""Alerts in an overview; the worst and newest."""
FORGET = timedelta(days=1)
"""A target without readings for so long, with which all was well, is forgotten."""
_INTERVALS = 3
_REMEMBERED = 0.9
_UNKNOWN = timedelta(minutes=10)
_SPARSE = "device.status"
"""Told when it changes and not before: its silence means nothing."""


@dataclass(frozen=True, slots=True)
class Presence:
    """When something came of a device's category last, and how far apart it comes: the longest of the lately seen."""

    at: datetime
    interval: timedelta | None = None
    """None before something came twice."""

    def again(self, now: datetime) -> Presence:
        """Return it after something came again. Longer gaps are forgotten by and by: a silence that is over is one."""
        gap = now - self.at
        return Presence(now, gap if self.interval is None else max(gap, self.interval * _REMEMBERED))

    @property
    def patience(self) -> timedelta:
        """How long its silence means nothing: a device that is polled every five minutes is not down after one."""
        return _UNKNOWN if self.interval is None else self.interval * _INTERVALS


@dataclass(slots=True)
class Memory:
    """All that must survive a restart."""

    alerts: dict[Key, Alert] = field(default_factory=dict)
    windows: dict[Key, Window] = field(default_factory=dict)
    seen: dict[tuple[str, str], Presence] = field(default_factory=dict)
    """(device, category) -> when something came of it last."""
    silences: dict[str, Silence] = field(default_factory=dict)
    backlogs: dict[str, notices.Backlog] = field(default_factory=dict)
    groups: dict[str, datetime] = field(default_factory=dict)
    """Device -> when it may be told of."""


class Engine:
    """Alerts of one rule file over one stream of events. ``dirty`` are the alerts that changed since it was cleared."""

    def __init__(self, rules: Rules, memory: Memory | None = None) -> None:
        self.rules = rules
        self.memory = memory or Memory()
        self.dirty: set[Key] = set()
        self.refused = 0
        self._changes: list[dict[str, Any]] = []
        self._live_since: datetime | None = None
        self._now = datetime.min.replace(tzinfo=UTC)
        self._causes = Causes()
        self._by_rule: dict[str, int] = {}
        for key, alert in self.memory.alerts.items():
            self._by_rule[key.rule] = self._by_rule.get(key.rule, 0) + 1
            self._causes.note(alert)
        self._index()

    def _index(self) -> None:
        self._by_name: dict[str, Rule] = {rule.name: rule for rule in self.rules.rules}
        self._by_metric: dict[str, list[Threshold | Rate | StateRule]] = {}
        for rule in self.rules.rules:
            if isinstance(rule, Threshold | Rate | StateRule):
                self._by_metric.setdefault(rule.metric, []).append(rule)
        self._covered: dict[Key, bool] = {}

    def use(self, rules: Rules, now: datetime) -> None:
        """Let other rules come into force; alerts of rules that are gone, or no longer about them, are resolved."""
        self._now = now
        before, self.rules = self._by_name, rules
        self._index()
        for key in list(self.memory.alerts):
            rule, old = self._by_name.get(key.rule), before.get(key.rule)
            if rule is None or rule.kind != (old or rule).kind or not rule.covers(key.device, key.item):
                self._forget(key, now)
            elif old is not None and getattr(old, "over", None) != getattr(rule, "over", None):
                self.memory.windows.pop(key, None)
        for name in set(self.memory.backlogs) - {channel.name for channel in rules.channels}:
            del self.memory.backlogs[name]

    # what comes in ------------------------------------------------------------------------------------------------

    def observe(self, event: Event, now: datetime) -> None:
        """Take an event in. Of an event from the future, by its device's clock, the time is ours."""
        self._now = now
        device, category = device_of(event.stream), category_of(event.stream)
        if device == OWN_DEVICE and category in {ALERTS, REQUESTS}:
            if category == REQUESTS:
                self._request(event, now)
            return
        if event.kind == Kind.STREAM_OPENED:
            return
        observation = observe(event)
        if event.kind != Kind.DEVICE_STATUS_CHANGED:  # said about a device, often because nothing comes of it
            before = self.memory.seen.get((device, category))
            self.memory.seen[device, category] = Presence(now) if before is None else before.again(now)
        at = min(observation.at, now)
        for reading in observation.readings:
            for rule in self._by_metric.get(reading.metric, ()):
                key = Key(rule.name, device, reading.item)
                if self._covers(rule, key):
                    self._judge(rule, key, reading.value, at, now)
        if observation.complete:
            self._let_go(observation, now)

    def _covers(self, rule: Rule, key: Key) -> bool:
        found = self._covered.get(key)
        if found is None:
            found = self._covered[key] = rule.covers(key.device, key.item)
        return found

    def _judge(
        self, rule: Threshold | Rate | StateRule, key: Key, value: float | str, at: datetime, now: datetime
    ) -> None:
        alert = self._alert(key)
        if alert is None:
            return
        window = self.memory.windows.get(key)
        if window is None and (window := conditions.window_of(rule)) is not None:
            self.memory.windows[key] = window
        verdict, shown = conditions.judge(rule, alert, value, at, window)
        interval = now - alert.read_at if alert.read_at else alert.interval
        read = replace(alert, value=alert.value if shown is None else shown, read_at=now, interval=interval)
        self._set(alert, lifecycle.step(read, verdict, at, rule.for_))

    def _alert(self, key: Key) -> Alert | None:
        """Return the alert of a key, a new one if need be; None when its rule has too many."""
        alert = self.memory.alerts.get(key)
        if alert is not None:
            return alert
        if self._by_rule.get(key.rule, 0) >= MOST_TARGETS:
            self.refused += 1
            return None
        self._by_rule[key.rule] = self._by_rule.get(key.rule, 0) + 1
        alert = self.memory.alerts[key] = Alert(key)
        return alert

    def _let_go(self, observation: Observation, now: datetime) -> None:
        """Resolve the alerts of items that are no longer in a list that was told whole."""
        for name, items in observation.complete.items():
            for metric, rules in self._by_metric.items():
                if not metric.startswith(f"{name}."):
                    continue
                for rule in rules:
                    for key in self._causes.items_of(rule.name, observation.device):
                        if key.item and key.item not in items:
                            self._forget(key, now)

    def _forget(self, key: Key, now: datetime) -> None:
        alert = self.memory.alerts[key]
        ended = self._set(alert, lifecycle.gone(alert, now))
        self.memory.windows.pop(key, None)
        if not ended.told and (ended.resolved_at is None or key.rule not in self._by_name):
            self._drop(key)

    def _drop(self, key: Key) -> None:
        if self.memory.alerts.pop(key, None) is not None:
            self._by_rule[key.rule] -= 1
            self._causes.drop(key)
            self.dirty.add(key)

    # what people ask ----------------------------------------------------------------------------------------------

    def _request(self, event: Event, now: datetime) -> None:
        payload = event.payload
        if event.kind == "alert_acknowledged":
            for alert in list(self.memory.alerts.values()):
                if alert.firing and document(alert, self._by_name.get(alert.key.rule))["id"] == payload.get(
                    "alert_id"
                ):
                    by = str(payload.get("by", ""))
                    self._set(alert, replace(alert, acknowledged_by=by, acknowledged_at=event.occurred_at))
        elif event.kind == "alert_silenced" and (silence := silence_of(payload)) is not None:
            self.memory.silences[silence.id] = silence
        elif event.kind == "alert_silence_ended":
            self.memory.silences.pop(str(payload.get("id")), None)
        for silence_id in [s.id for s in self.memory.silences.values() if s.ends_at <= now]:
            del self.memory.silences[silence_id]

    # what time does -----------------------------------------------------------------------------------------------

    def advance(self, now: datetime, *, live: bool = True, tell: bool = True) -> None:
        """Do what is due. While our own feed is not ``live`` nobody is missed; without ``tell`` nothing is told yet."""
        self._now = now
        if not live:
            self._live_since = None
        elif self._live_since is None:
            self._live_since = now
        if self._live_since is not None:
            self._miss(now, self._live_since)
        for key in self._causes.open():
            rule = self._by_name.get(key.rule)
            if rule is not None:
                alert = self.memory.alerts[key]
                self._set(alert, lifecycle.pass_time(alert, now, rule.for_))
        self._compose(now)
        if tell:
            self._tell(now)

    def _miss(self, now: datetime, live_since: datetime) -> None:
        """Notice what stays away, from when our own feed was live on."""
        for rule in self.rules.rules:
            if isinstance(rule, Absence):
                for (device, category), seen in self.memory.seen.items():
                    key = Key(rule.name, device, "")
                    if category == rule.category and self._covers(rule, key):
                        self._absent(rule, key, seen, now, live_since)
        for alert in list(self.memory.alerts.values()):
            if alert.read_at is None:
                self._forget_in_time(alert, now)
            elif isinstance(rule_of := self._by_name.get(alert.key.rule), Threshold | Rate | StateRule):
                self._quiet(alert, rule_of, now, now - max(alert.read_at, live_since))

    def _forget_in_time(self, alert: Alert, now: datetime) -> None:
        """Let go of the alert of a target that is gone; what fired lately is remembered, lest it flaps that way."""
        well = alert.state is State.OK and not alert.told
        if well and (alert.resolved_at is None or now - alert.resolved_at > FORGET):
            self._drop(alert.key)

    def _quiet(
        self, alert: Alert, rule: Threshold | Rate | StateRule, now: datetime, quiet: timedelta
    ) -> None:
        if rule.metric == _SPARSE or quiet <= max(rule.no_data_after, alert.interval * _INTERVALS):
            return
        if quiet > FORGET and not alert.firing and not alert.told:
            self._drop(alert.key)
            self.memory.windows.pop(alert.key, None)
        elif alert.state is not State.NO_DATA:
            self._set(alert, lifecycle.step(alert, Verdict.MISSING, now, rule.for_))

    def _absent(self, rule: Absence, key: Key, seen: Presence, now: datetime, live_since: datetime) -> None:
        alert = self.memory.alerts.get(key)
        after = max(rule.after, seen.patience)
        if now - seen.at < after:
            if alert is not None and alert.state is not State.OK:
                self._set(alert, lifecycle.step(alert, Verdict.CALM, now, rule.for_))
        elif now - max(seen.at, live_since) >= after and (alert is None or not alert.firing):
            found = alert or self._alert(key)
            if found is not None:
                silent = round((now - seen.at).total_seconds(), 1)
                self._set(found, lifecycle.step(replace(found, value=silent), Verdict.BREACH, now, rule.for_))

    def _compose(self, now: datetime) -> None:
        """Judge composites, for devices of which something fires or a composite is open."""
        composites = [rule for rule in self.rules.rules if isinstance(rule, Composite)]
        for rule in composites:
            parts = (*rule.all, *rule.any)
            devices = self._causes.devices(parts) | {key.device for key in self._causes.of(rule.name)}
            for device in devices:
                key = Key(rule.name, device, "")
                if not self._covers(rule, key):
                    continue
                hits = [name for name in parts if self._causes.fires(name, device)]
                broken = len(hits) == len(parts) if rule.all else bool(hits)
                alert = self.memory.alerts.get(key)
                if alert is None and not broken:
                    continue
                found = alert or self._alert(key)
                if found is not None:
                    verdict = Verdict.BREACH if broken else Verdict.CALM
                    shown = replace(found, value=", ".join(hits) or found.value)
                    self._set(found, lifecycle.step(shown, verdict, now, rule.for_))

    # what is told -------------------------------------------------------------------------------------------------

    def cause(self, key: Key, now: datetime) -> str | None:
        """Return the rule that is the cause of an alert now, and keeps it from being told."""
        rule = self._by_name.get(key.rule)
        for name in rule.inhibited_by if rule else ():
            if self._causes.covers(name, key.device, now):
                return name
        return None

    def silenced(self, key: Key, now: datetime) -> str | None:
        """Return what silences an alert now: a silence's id, or a maintenance window's name."""
        for silence in self.memory.silences.values():
            if silence.covers(key, now):
                return silence.id
        return in_maintenance(self.rules.maintenance, key, now)

    def _wanted(self, alert: Alert, rule: Rule | None, now: datetime) -> notices.Word | None:
        """Return what is to be told of an alert now."""
        if alert.told:
            quiet = alert.state is State.OK or rule is None or not rule.notify
            return notices.Word.RESOLVED if quiet else None
        if rule is None or not rule.notify or alert.acknowledged_by is not None:
            return None
        word = (
            notices.Word.FIRING
            if alert.state is State.FIRING
            else notices.Word.NO_DATA
            if alert.state is State.NO_DATA and rule.no_data is NoData.NOTIFY
            else None
        )
        if word is None or (alert.told_at is not None and now - alert.told_at < rule.cooldown):
            return None
        return None if self.cause(alert.key, now) or self.silenced(alert.key, now) else word

    def _tell(self, now: datetime) -> None:
        wanted: dict[str, list[tuple[Alert, notices.Word]]] = {}
        for key in self._causes.open():
            alert = self.memory.alerts[key]
            if (word := self._wanted(alert, self._by_name.get(key.rule), now)) is not None:
                wanted.setdefault(key.device, []).append((alert, word))
        grouping = self.rules.grouping
        for device, ready_at in list(self.memory.groups.items()):
            if device not in wanted and ready_at <= now:
                del self.memory.groups[device]
        for device, alerts in wanted.items():
            ready_at = self.memory.groups.setdefault(device, now + grouping.wait)
            if ready_at > now:
                continue
            self.memory.groups[device] = now + grouping.interval
            for alert, word in alerts:
                self._put(alert, word, now)

    def _put(self, alert: Alert, word: notices.Word, now: datetime) -> None:
        rule = self._by_name.get(alert.key.rule)
        resolved = word is notices.Word.RESOLVED
        if not (resolved and self.silenced(alert.key, now)):
            line = notices.Line(
                alert.key,
                word,
                rule.severity if rule else Severity.INFO,
                _text(alert, rule, word),
                alert.since or now,
                0 if resolved else sum(1 for _ in self._held_back(alert.key)),
                str(episode(alert))[:8],
            )
            for channel in self.rules.channels:
                wanted = not (rule and rule.channels) or (rule is not None and channel.name in rule.channels)
                if wanted and line.severity.rank >= channel.severity.rank:
                    self.memory.backlogs.setdefault(channel.name, notices.Backlog()).put(line)
        told = replace(alert, told=not resolved, told_at=alert.told_at if resolved else now)
        self._set(alert, told)
        if resolved and rule is None:
            self._drop(alert.key)

    def _held_back(self, key: Key) -> Iterator[Key]:
        for other in self._causes.open():
            alert = self.memory.alerts[other]
            if other.device == key.device and alert.firing and not alert.told:
                rule = self._by_name.get(other.rule)
                if rule is not None and key.rule in rule.inhibited_by:
                    yield other

    def messages(self, now: datetime) -> Iterable[notices.Message]:
        """Return what is to be delivered now: at most one message a channel, until it is settled."""
        for channel in self.rules.channels:
            backlog = self.memory.backlogs.get(channel.name)
            if backlog is not None and (message := backlog.make(channel, now)) is not None:
                yield message

    def settle(self, message: notices.Message, now: datetime, error: str | None = None) -> None:
        """Note that a message was delivered, or why it was not."""
        backlog = self.memory.backlogs.get(message.channel)
        if backlog is not None:
            backlog.settle(message.id, now, error)

    # what is shown ------------------------------------------------------------------------------------------------

    def _set(self, before: Alert, after: Alert) -> Alert:
        """Put an alert in the place of what it was; what others should know becomes a change."""
        if after is before or after == before:
            return before
        self.dirty.add(after.key)
        tells = (
            before.firing != after.firing
            or (before.state is State.NO_DATA) != (after.state is State.NO_DATA)
            or before.acknowledged_by != after.acknowledged_by
        )
        if tells:
            after = replace(after, revision=after.revision + 1)
        self.memory.alerts[after.key] = after
        self._causes.note(after)
        if tells:
            self._changes.append(self._shown(after, self._now))
        return after

    def _shown(self, alert: Alert, now: datetime) -> dict[str, Any]:
        return {
            **document(alert, self._by_name.get(alert.key.rule)),
            "inhibited_by": self.cause(alert.key, now),
            "silenced_by": self.silenced(alert.key, now),
        }

    def take_changes(self) -> list[dict[str, Any]]:
        """Return what changed since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    def overview(self, now: datetime) -> dict[str, Any]:
        """Return all open alerts, the worst and newest `SHOWN` of them whole, and how many there are."""
        alerts = [self.memory.alerts[key] for key in self._causes.open()]
        alerts = [alert for alert in alerts if alert.state is not State.OK]
        counts = {
            state.value: sum(alert.state is state for alert in alerts)
            for state in State
            if state is not State.OK
        }
        alerts.sort(key=lambda alert: alert.since.timestamp() if alert.since else 0.0, reverse=True)
        alerts.sort(key=self._badness, reverse=True)
        shown = [self._shown(alert, now) for alert in alerts[:SHOWN]]
        return {"alerts": shown, "counts": counts, "left_out": len(alerts) - len(shown)}

    def _badness(self, alert: Alert) -> tuple[bool, int]:
        rule = self._by_name.get(alert.key.rule)
        return alert.firing, rule.severity.rank if rule else 0

    def channels(self) -> Mapping[str, notices.Backlog]:
        """Return how each channel is doing."""
        return self.memory.backlogs


def _text(alert: Alert, rule: Rule | None, word: notices.Word) -> str:
    if word is notices.Word.RESOLVED:
        return "all is well again" if rule else "its rule is gone"
    value = f"{alert.value:.4g}" if isinstance(alert.value, float) else alert.value
    if word is notices.Word.NO_DATA:
        text = f"no readings since {alert.read_at:%H:%M:%S} UTC" if alert.read_at else "no readings"
    elif isinstance(rule, Absence):
        text = f"nothing came of its {rule.category} for {value} s"
    elif isinstance(rule, Composite):
        text = f"{value}"
    else:
        wanted = conditions.expected(rule)
        metric = rule.metric if rule is not None else ""
        text = f"{metric} is {value}" if isinstance(rule, StateRule) else f"{metric} is {value}, {wanted}"
    flapping = "; it flaps" if alert.flapping else ""
    return f"{text}{flapping}{f' - {rule.summary}' if rule and rule.summary else ''}"
