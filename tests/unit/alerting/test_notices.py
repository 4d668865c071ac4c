"""Messages: few, whole, tried again, given up after a day."""

from __future__ import annotations

from datetime import timedelta

from alerting.lifecycle import Key
from alerting.notices import Backlog, Line, Word
from alerting.rules import Channel, Severity
from tests.fakes.alert_events import at

CHANNEL = Channel(name="ops", url="json://localhost", burst=2, every=timedelta(seconds=30))


def line(device: str, word: Word = Word.FIRING, rule: str = "cpu") -> Line:
    return Line(Key(rule, device, ""), word, Severity.WARNING, "text", at(0))


def test_devices_are_told_apart_while_there_is_room_and_together_past_it() -> None:
    few, many = Backlog(), Backlog()
    for device in ("a", "b"):
        few.put(line(device))
    for device in ("a", "b", "c"):
        many.put(line(device))
    first, whole = few.make(CHANNEL, at(0)), many.make(CHANNEL, at(0))
    assert first is not None
    assert whole is not None
    assert first.title == "[warning] cpu: a"
    assert whole.title == "[warning] cpu: 3 firing on 3 devices"


def test_one_message_is_on_its_way_at_a_time_and_the_rest_waits_for_it() -> None:
    backlog = Backlog()
    backlog.put(line("a"))
    first = backlog.make(CHANNEL, at(0))
    backlog.put(line("b"))
    assert backlog.make(CHANNEL, at(1)) is first
    assert first is not None
    backlog.settle(first.id, at(1))
    second = backlog.make(CHANNEL, at(1))
    assert second is not None
    assert second.id != first.id
    backlog.settle(second.id, at(2))
    backlog.put(line("c"))
    assert backlog.make(CHANNEL, at(3)) is None, "two at once, and then one each half minute"
    assert backlog.make(CHANNEL, at(32)) is not None


def test_what_came_and_went_unseen_is_not_told() -> None:
    backlog = Backlog()
    backlog.put(line("a"))
    backlog.put(line("a", Word.RESOLVED))
    assert backlog.make(CHANNEL, at(0)) is None


def test_a_message_that_is_not_taken_is_tried_again_later_each_time_and_lost_after_a_day() -> None:
    backlog = Backlog()
    backlog.put(line("a"))
    tries, now = [], 0.0
    while backlog.lost == 0:
        if (message := backlog.make(CHANNEL, at(now))) is not None:
            backlog.settle(message.id, at(now), "no answer")
            tries.append(now)
        now += 1
    assert tries[:4] == [0, 5, 15, 35]
    assert tries[-1] - tries[-2] == 300
    assert 86_400 <= tries[-1] < 86_400 + 301
    assert backlog.last_error == "no answer"


def test_what_firing_and_resolved_alerts_have_in_common_is_the_title() -> None:
    backlog = Backlog()
    backlog.put(line("a", rule="cpu"))
    backlog.put(line("a", Word.RESOLVED, rule="memory"))
    message = backlog.make(CHANNEL, at(0))
    assert message is not None
    assert message.title == "[warning] 2 rules: 1 firing, 1 resolved on a"
    assert [text.split(" ")[0] for text in message.body.splitlines()] == ["FIRING", "RESOLVED"]


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    backlog = Backlog()
    backlog.put(line("a"))
    first = backlog.make(CHANNEL, at(0))
    assert first is not None
    backlog.settle("another", at(1))
    assert backlog.message is first
