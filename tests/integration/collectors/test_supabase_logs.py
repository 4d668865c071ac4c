"""Container logs over Supabase: the official client, a real Docker, and a database that cuts connections."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

from adapters.interest import InterestListener
from adapters.log_broadcast import LogBroadcast
from collectors.docker import DockerCollector
from collectors.docker_connection import from_environment
from collectors.docker_logs import DockerLogs
from monitoring.logs import LogSource
from tests.conftest import EmbeddedSupabase
from tests.fakes.log_source import ScriptedLogs
from tests.integration.collectors.test_container_logs import COUNTER, until


class Viewer:
    """One page: it joins the log's channel, says that it is interested, and keeps lines by their place."""

    def __init__(self, supabase: EmbeddedSupabase, device: str, container: str) -> None:
        self.id = str(uuid.uuid4())
        self.lines: dict[tuple[str, str, int], str] = {}
        self.marks: list[str] = []
        self.failures: list[str] = []
        self.snapshot: list[str] | None = None
        self._supabase = supabase
        self._device, self._container = device, container

    async def call(self, function: str, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {
            "apikey": self._supabase.keys.anon_key,
            "Authorization": f"Bearer {token or self._supabase.token()}",
        }
        body = {"p_viewer": self.id, "p_device": self._device, "p_container": self._container, **more}
        async with httpx.AsyncClient() as client:
            return await client.post(
                f"{self._supabase.url}/rest/v1/rpc/{function}", headers=headers, json=body
            )

    @asynccontextmanager
    async def watching(self, lines: int = 100) -> AsyncIterator[Viewer]:
        client = AsyncRealtimeClient(f"{self._supabase.url}/realtime/v1", token=self._supabase.keys.anon_key)
        await client.set_auth(self._supabase.token())
        await client.connect()
        joined = asyncio.Event()
        channel = client.channel(f"logs:{self._device}/{self._container}", {"config": {"private": True}})
        for event in ("log_snapshot", "log_lines", "log_failed"):
            channel.on_broadcast(event, self._take)

        def state(reached: RealtimeSubscribeStates, _: Exception | None) -> None:
            if reached is RealtimeSubscribeStates.SUBSCRIBED:
                joined.set()

        await channel.subscribe(state)
        async with asyncio.timeout(20):
            await joined.wait()
        answer = await self.call("cf_follow_logs", p_lines=lines)
        assert answer.json() == {
            "channel": f"logs:{self._device}/{self._container}", "seconds": 30, "new": True,
        }  # fmt: skip
        try:
            yield self
        finally:
            await self.call("cf_end_logs")
            await client.close()

    def _take(self, message: Any) -> None:
        event, payload = message["event"], message["payload"]
        if event == "log_failed":
            self.failures.append(payload["reason"])
            return
        if event == "log_snapshot":
            if payload["viewer"] != self.id:
                return
            self.snapshot = (self.snapshot or []) + [line[3] for line in payload["lines"]]
        for container, at, position, text, mark in payload["lines"]:
            if mark:
                self.marks.append(mark)
            else:
                self.lines[container, at, position] = text

    def of(self, stream: str) -> list[str]:
        """Return the lines in the order of their places."""
        return [text for _, text in sorted(self.lines.items()) if text.startswith(stream)]


@asynccontextmanager
async def broadcasting(
    supabase: EmbeddedSupabase, source: LogSource, device: str
) -> AsyncIterator[LogBroadcast]:
    one = LogBroadcast({device: source})
    task = asyncio.create_task(InterestListener(supabase.postgres.dsn(), [one]).run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


async def cut(supabase: EmbeddedSupabase) -> None:
    """Let the database end the collector's connection for logs."""
    connection = await asyncpg.connect(supabase.postgres.dsn())
    try:
        ended = await connection.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'crossfade interest'"
        )
        assert ended
    finally:
        await connection.close()


@pytest.mark.docker
async def test_a_viewer_of_supabase_has_every_line_once(
    embedded_supabase: EmbeddedSupabase, containers: Any
) -> None:
    device = f"log-{uuid.uuid4().hex[:8]}"
    name = await asyncio.to_thread(containers.run, "sh", "-c", COUNTER)
    collector = DockerCollector(device)
    watching = asyncio.create_task(collector.watch(lambda _: None))
    try:
        logs = DockerLogs(device, from_environment, collector.known)
        async with broadcasting(embedded_supabase, logs, device) as broadcast:
            async with Viewer(embedded_supabase, device, name).watching() as one:
                await until(lambda: len(one.lines) > 100, "the first lines")
                await asyncio.to_thread(containers.command, "restart", "-t", "0", name)
                await until(lambda: "restarted" in one.marks, "the restart")
                await cut(embedded_supabase)
                before = len(one.lines)
                await until(lambda: len(one.lines) > before + 100, "lines after the cut")
                async with Viewer(embedded_supabase, device, name).watching(lines=5) as other:
                    await until(lambda: other.snapshot is not None, "the other's own last lines")
                    assert other.snapshot is not None
                    assert len(other.snapshot) == 5
                    assert broadcast.followed == 1
                await asyncio.to_thread(containers.command, "kill", name)
                truth = await asyncio.to_thread(containers.logs, name)
                for stream in ("out", "err"):
                    said = [line for line in truth if line.startswith(stream)]
                    await until(
                        lambda said=said, stream=stream: one.of(stream)[-1:] == said[-1:], "the last line"
                    )
                    told = one.of(stream)
                    assert told == said[said.index(told[0]) :]
            await until(lambda: (broadcast.followed, logs.followed) == (0, 0), "the end of the reading")
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def test_nobody_is_told_what_nobody_asked_for_and_failures_are_said(
    embedded_supabase: EmbeddedSupabase,
) -> None:
    device, logs = f"log-{uuid.uuid4().hex[:8]}", ScriptedLogs()
    logs.write(device, "a", *"123")
    async with broadcasting(embedded_supabase, logs, device) as broadcast:
        async with Viewer(embedded_supabase, device, "a").watching(lines=2) as one:
            await until(lambda: one.snapshot == ["2", "3"], "the last lines")
            logs.write(device, "a", "4")
            await until(lambda: list(one.lines.values()) == ["2", "3", "4"], "the new line")
            assert not (await one.call("cf_follow_logs", p_lines=2)).json()["new"]
            logs.fail(device, "a", "it was removed")
            await until(lambda: one.failures == ["it was removed"], "the reason")
        await until(lambda: broadcast.followed == 0, "the end")
        assert logs.reading == set()


async def test_logs_are_for_viewers_and_for_so_many_at_once(embedded_supabase: EmbeddedSupabase) -> None:
    device = f"log-{uuid.uuid4().hex[:8]}"
    one = Viewer(embedded_supabase, device, "a")
    stranger = await one.call("cf_follow_logs", token=embedded_supabase.token(role="nobody"))
    assert stranger.status_code == 403
    assert "for viewers" in stranger.text
    assert (await one.call("cf_follow_logs", token=embedded_supabase.keys.anon_key)).status_code in {
        401,
        403,
        404,
    }
    others = [Viewer(embedded_supabase, device, f"c{number}") for number in range(21)]
    answers = [await each.call("cf_follow_logs") for each in others]
    assert [answer.status_code for answer in answers[:20]] == [200] * 20
    assert "at most 20 container logs" in json.loads(answers[20].text)["message"]
    for each in others:
        await each.call("cf_end_logs")
    assert (await others[20].call("cf_follow_logs")).status_code == 200
    await others[20].call("cf_end_logs")
