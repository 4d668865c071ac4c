"""What an application sees of pushing: never an exception, never a wait, everything kept or counted."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from crossfade import push
from crossfade.errors import CrossfadeError, UsageError
from crossfade.push import Application
from monitoring.intake import Taken
from tests.fakes.intake import MemoryIntake, eventually


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def app(intake: MemoryIntake) -> Iterator[Application]:
    made = Application("app-7", intake, max_events=100, batch_seconds=0.01)
    yield made
    intake.open.set()
    made.close(2)


def told(intake: MemoryIntake) -> list[tuple[str, str, Any]]:
    return [(draft.stream, draft.kind, draft.payload) for draft in intake.kept]


def test_sessions_are_told_as_changes_of_a_list(app: Application, intake: MemoryIntake) -> None:
    assert app.session_created("a", user="ann", page="/")
    assert app.session_created("b")
    assert app.session_updated("a", page="/cart", user="ann")
    assert app.session_destroyed("b", reason="timeout")
    assert app.flush()
    assert told(intake) == [
        ("app-7/sessions", "session_created", {
            "session_id": "a", "attributes": {"user": "ann", "page": "/"},
            "sessions": {"active_count": 1, "total_count": 1}}),
        ("app-7/sessions", "session_created", {
            "session_id": "b", "attributes": {}, "sessions": {"active_count": 2, "total_count": 2}}),
        ("app-7/sessions", "session_updated", {
            "session_id": "a", "attributes": {"user": "ann", "page": "/cart"}, "changed": ["page"],
            "sessions": {"active_count": 2, "total_count": 2}}),
        ("app-7/sessions", "session_destroyed", {
            "session_id": "b", "attributes": {}, "reason": "timeout",
            "sessions": {"active_count": 1, "total_count": 2}}),
    ]  # fmt: skip
    assert all(draft.id is not None and draft.id.version == 7 for draft in intake.kept)


def test_connections_of_any_type_are_told_in_the_seeds_words(app: Application, intake: MemoryIntake) -> None:
    app.connection("redis", function_name="get", data_size_bytes=9, response_time_ms=1.5, key="k")
    app.connection("carrier pigeon", direction="inbound", script_name="loft.py", error=ValueError("lost"))
    assert app.flush()
    assert [draft.payload for draft in intake.kept] == [
        {"connection_type": "redis", "direction": "outbound", "script_name": "app-7", "function_name": "get",
         "data_size_bytes": 9, "response_time_ms": 1.5, "error": None, "metadata": {"key": "k"}},
        {"connection_type": "carrier pigeon", "direction": "inbound", "script_name": "loft.py",
         "function_name": None, "data_size_bytes": 0, "response_time_ms": None, "error": "lost", "metadata": {}},
    ]  # fmt: skip


def test_of_a_gauge_the_newest_value_is_told_and_only_when_it_changed(
    app: Application, intake: MemoryIntake
) -> None:
    for in_use in range(5):
        app.semaphore("pool", in_use=in_use, limit=8)
    assert app.flush()
    app.semaphore("pool", in_use=4, limit=8)
    assert app.flush()
    app.semaphore("pool", in_use=1, limit=8, waiting=2)
    assert app.flush()
    assert [(draft.payload["in_use"], draft.payload["waiting"]) for draft in intake.kept] == [
        (4, None),
        (1, 2),
    ]


def test_gauges_are_told_by_themselves_each_interval(intake: MemoryIntake) -> None:
    with Application("app-7", intake, sample_seconds=0.02, batch_seconds=0.01) as app:
        app.semaphore("pool", in_use=1)
        eventually(lambda: len(intake.kept) == 1)
        app.semaphore("pool", in_use=2)
        eventually(lambda: len(intake.kept) == 2)


def test_events_go_out_in_batches_and_in_order(app: Application, intake: MemoryIntake) -> None:
    intake.open.clear()
    app.event("things", "thing", {"number": 0})
    assert intake.asked.wait(5)
    for number in range(1, 90):
        app.event("things", "thing", {"number": number})
    intake.open.set()
    assert app.flush()
    assert intake.batches == [1, 89]
    assert [draft.payload["number"] for draft in intake.kept] == list(range(90))


def test_what_does_not_fit_is_left_out_counted_and_said_once(
    app: Application, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    intake.open.clear()
    with caplog.at_level(logging.WARNING, "crossfade.push"):
        began = time.perf_counter()
        accepted = [app.event("things", "thing", {"number": number}) for number in range(1_000)]
        assert time.perf_counter() - began < 2  # nobody was waited for
    assert accepted == [True] * 100 + [False] * 900
    assert app.status().lost == {"overflow": 900}
    assert len([record for record in caplog.records if "buffer is full" in record.message]) == 1
    intake.open.set()
    assert not app.flush()  # kept, but some were lost on the way
    assert len(intake.kept) == 100
    assert app.event("things", "thing", {})
    assert app.flush()
    assert (app.status().kept, app.status().waiting) == (101, 0)


def test_the_bytes_that_wait_are_bounded_too(intake: MemoryIntake) -> None:
    intake.open.clear()
    app = Application("app-7", intake, max_bytes=1_000)
    assert [app.event("things", "thing", {"text": "x" * 400}) for _ in range(3)] == [True, True, False]
    intake.open.set()
    assert not app.flush()
    assert [app.event("things", "thing", {"text": "x" * 400}) for _ in range(2)] == [True, True]
    app.close()
    assert len(intake.kept) == 4


class Awkward:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def test_nothing_that_is_pushed_raises(app: Application, intake: MemoryIntake) -> None:
    loop: dict[str, Any] = {}
    loop["itself"] = loop
    odd: Any = object()
    assert app.session_created("s", when=uuid4(), what={1, 2}, who=odd)  # what JSON has not becomes text
    assert not app.event("things", "thing", {"awkward": Awkward()})
    assert not app.event("things", "thing", loop)
    assert not app.event("things", "thing", {"large": "x" * 500_000})
    assert not app.event("things", "thing", {"nul": "\0"})
    assert not app.event("no such/category", "thing", {})
    assert not app.event("things", "thing", odd)
    assert not app.session_updated("s", awkward=Awkward())
    assert not app.connection("redis", error=Awkward())  # type: ignore[arg-type]
    assert not app.flush()
    assert app.status().lost == {"invalid": 8}
    assert [draft.kind for draft in intake.kept] == ["session_created"]


def test_payloads_are_as_they_were_when_they_were_pushed(app: Application, intake: MemoryIntake) -> None:
    tags = ["a"]
    app.event("things", "thing", {"tags": tags})
    app.session_created("s", tags=tags)
    tags.append("b")
    app.session_updated("s")
    assert app.flush()
    assert intake.kept[0].payload["tags"] == ["a"]
    assert intake.kept[2].payload["attributes"]["tags"] == ["a"]


def test_an_outage_is_waited_out_and_said_once(
    app: Application, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    away = Taken("the service is away", again=True)
    intake.answer = lambda draft: away if len(intake.batches) < 6 else Taken()  # type: ignore[method-assign]
    with caplog.at_level(logging.INFO, "crossfade.push"):
        app.event("things", "thing", {"number": 1})
        app.event("things", "thing", {"number": 2})
        assert app.flush(20)
    assert [draft.payload["number"] for draft in intake.kept] == [1, 2]
    said = [record.message for record in caplog.records]
    assert said.count("events are not kept: the service is away") == 1
    assert said[-1] == "events are kept again"


@pytest.mark.parametrize("error", [CrossfadeError("nothing runs"), KeyError("a bug")])
def test_an_intake_that_fails_is_opened_again_and_nothing_is_lost(
    app: Application, intake: MemoryIntake, error: Exception
) -> None:
    intake.fail = error
    app.event("things", "thing", {})
    eventually(lambda: intake.opened > 1)
    assert app.status().problem
    intake.fail = None
    assert app.flush(20)
    assert len(intake.kept) == 1


def test_what_is_refused_for_good_is_counted_and_holds_up_nothing(
    app: Application, intake: MemoryIntake
) -> None:
    intake.answer = lambda draft: Taken("no" if draft.payload["number"] == 1 else None)  # type: ignore[method-assign]
    for number in range(3):
        app.event("things", "thing", {"number": number})
    assert not app.flush()
    assert [draft.payload["number"] for draft in intake.kept] == [0, 2]
    assert app.status().lost == {"refused": 1}


def test_closing_delivers_what_it_can_and_counts_the_rest(
    intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application("app-7", intake, batch_seconds=30)
    app.semaphore("pool", in_use=1)
    app.event("things", "thing", {})
    app.close()
    assert [draft.kind for draft in intake.kept] == ["thing", "semaphore_gauge"]
    assert not app.event("things", "thing", {})
    assert app.status().lost == {"closed": 1}
    app.close()

    intake.open.clear()
    stuck = Application("app-8", intake)
    stuck.event("things", "thing", {})
    assert intake.asked.wait(5)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "crossfade.push"):
        stuck.close(0.2)
    assert time.monotonic() - began < 5
    assert stuck.status().lost == {"closed": 1}
    assert "app-8 ended with 1 events that nobody kept" in caplog.text
    intake.open.set()


def test_closing_during_an_outage_is_bounded(intake: MemoryIntake) -> None:
    intake.answer = lambda draft: Taken("away", again=True)  # type: ignore[method-assign]
    app = Application("app-7", intake)
    app.event("things", "thing", {})
    began = time.monotonic()
    app.close(0.3)
    assert 0.2 < time.monotonic() - began < 3
    assert app.status().lost == {"closed": 1}


def test_it_is_used_from_many_threads_at_once(intake: MemoryIntake) -> None:
    app = Application("app-7", intake, batch_seconds=0.001)

    def work(name: int) -> None:
        for number in range(500):
            app.event("things", "thing", {"name": name, "number": number})

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.flush()
    for name in range(4):
        numbers = [draft.payload["number"] for draft in intake.kept if draft.payload["name"] == name]
        assert numbers == list(range(500))
    app.close()


async def test_it_is_used_from_asyncio_without_holding_it_up(intake: MemoryIntake) -> None:
    intake.open.clear()
    async with Application("app-7", intake) as app:
        app.event("things", "thing", {})
        flushing = asyncio.ensure_future(app.aflush())
        ticks = 0
        while ticks < 10:
            await asyncio.sleep(0.001)
            ticks += 1
        assert not flushing.done()
        intake.open.set()
        assert await flushing
    assert len(intake.kept) == 1


def test_the_child_of_a_fork_begins_with_nothing_and_works(intake: MemoryIntake) -> None:
    app = Application("app-7", intake, batch_seconds=0.01)
    app.event("things", "thing", {})
    assert app.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            app.event("things", "thing", {"child": True})
            code = 0 if app.flush() and app.status().kept == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    app.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": "a b"}, "must be 1-128 letters"),
        ({"name": "app", "where": "http://127.0.0.1:1"}, "needs a token"),
        ({"name": "app", "token": "x"}, "a token is for the address"),
        ({"name": "app", "database_url": "postgresql://x"}, "are for a spool"),
        ({"name": "app", "where": "http://127.0.0.1:1", "token": "x", "spool": "s.db"}, "give database_url"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        push.application(**arguments)
