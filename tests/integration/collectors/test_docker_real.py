"""The Docker collector against a real daemon, and without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from collectors.docker import DockerCollector
from collectors.docker_connection import connect_to
from monitoring.events import Draft, Kind


class Told:
    """What a collector published."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    def publish(self, drafts: Sequence[Draft]) -> None:
        self.drafts += drafts

    def changes(self, name: str) -> list[tuple[str, str | None]]:
        """Return (action, status) of one container's changes."""
        return [
            (draft.payload["action"], draft.payload["current"] and draft.payload["current"]["status"])
            for draft in self.drafts
            if draft.kind == Kind.CONTAINER_STATUS_CHANGED and draft.payload["container"]["name"] == name
        ]

    def payload(self, name: str, action: str) -> Any:
        """Return the payload of one container's change."""
        return next(
            draft.payload
            for draft in self.drafts
            if draft.kind == Kind.CONTAINER_STATUS_CHANGED
            and (draft.payload["container"]["name"], draft.payload["action"]) == (name, action)
        )

    def healths(self, name: str) -> set[str | None]:
        """Return every health one container was told to have."""
        return {
            draft.payload["current"]["health"]
            for draft in self.drafts
            if draft.kind == Kind.CONTAINER_STATUS_CHANGED
            and draft.payload["container"]["name"] == name
            and draft.payload["current"]
        }

    def availability(self) -> list[bool]:
        return [
            draft.payload["available"] for draft in self.drafts if draft.kind == Kind.CONTAINERS_COLLECTED
        ]


@asynccontextmanager
async def watching(collector: DockerCollector) -> AsyncIterator[Told]:
    told = Told()
    task = asyncio.create_task(collector.watch(told.publish))
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
        await collector.close()


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not within {seconds} s")


async def container(collector: DockerCollector, name: str) -> dict[str, Any]:
    (draft,) = (d for d in await collector.collect() if d.kind == Kind.CONTAINERS_COLLECTED)
    return next(found for found in draft.payload["containers"] if found["name"] == name)


def away() -> docker.APIClient:
    return connect_to("unix:///nonexistent/docker.sock")


async def test_no_daemon_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    def connect() -> docker.APIClient:
        nonlocal tries
        tries += 1
        return away()

    caplog.set_level(logging.INFO)
    collector = DockerCollector("web-1", connect=connect, retry_seconds=0.01)
    async with watching(collector) as told:
        await until(lambda: tries >= 4, "further tries")
        assert await collector.collect() == []
    assert told.availability() == [False]
    assert collector.detail == "Docker is not there: there is no socket; is the daemon installed and started?"
    assert [record.message for record in caplog.records] == [
        f"{collector.detail}; looking again every 0.01 s"
    ]


async def test_a_socket_without_a_daemon_behind_it_is_said(tmp_path: Path) -> None:
    import socket  # noqa: PLC0415 - only this test makes a dead one

    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "d.sock"))
    dead.close()
    collector = DockerCollector("web-1", connect=lambda: connect_to(f"unix://{tmp_path}/d.sock"))
    async with watching(collector) as told:
        await until(told.availability, "the reason")
    assert "nothing listens" in collector.detail


@pytest.mark.docker
async def test_a_container_s_life_is_told_as_it_happens(daemon: Any, containers: Any) -> None:
    collector = DockerCollector("web-1")
    async with watching(collector) as told:
        await until(lambda: collector.available, "the connection")
        name = await asyncio.to_thread(containers.run, "sleep", "1000")
        for action in ("pause", "unpause", "kill", "rm"):
            await asyncio.to_thread(containers.command, action, name)
        await until(lambda: ("destroy", None) in told.changes(name), "the end")
    assert told.changes(name) == [
        ("create", "created"), ("start", "running"), ("pause", "paused"), ("unpause", "running"), ("die", "exited"), ("destroy", None),
    ]  # fmt: skip


@pytest.mark.docker
async def test_every_other_change_is_told_too(daemon: Any, containers: Any) -> None:
    """How soon is measured in bench/docker_watch.py; here it only has to be told."""
    collector = DockerCollector("web-1")
    async with watching(collector) as told:
        await until(lambda: collector.available, "the connection")
        name = await asyncio.to_thread(containers.run, "sleep", "1000")
        await asyncio.to_thread(containers.command, "restart", "-t", "0", name)
        await until(
            lambda: told.changes(name)[2:] == [("die", "exited"), ("start", "running")], "the restart"
        )
        await asyncio.to_thread(containers.command, "rename", name, f"{name}-b")
        containers.made.append(f"{name}-b")
        await until(lambda: told.changes(f"{name}-b") == [("rename", "running")], "the new name")
        await asyncio.to_thread(containers.command, "rm", "-f", f"{name}-b")

        await asyncio.to_thread(containers.run, "sleep", "1000", name=name)
        await until(
            lambda: told.changes(name)[-2:] == [("create", "created"), ("start", "running")], "the successor"
        )

        sick = ("--health-cmd", "false", "--health-interval", "1s", "--health-retries", "1")
        ill = await asyncio.to_thread(containers.run, "sleep", "1000", options=sick)
        await until(lambda: "unhealthy" in told.healths(ill), "that it is unhealthy")

        hog = "a=0123456789; while :; do a=$a$a; done"
        fed = await asyncio.to_thread(containers.run, "sh", "-c", hog, options=("-m", "16m"))
        await until(lambda: ("die", "exited") in told.changes(fed), "its end")
        await until(lambda: ("oom", "running") in told.changes(fed), "that memory ran out")
        end = told.payload(fed, "die")
        assert (end["exit_code"], end["oom_killed"]) == (137, True)
        (after,) = (
            each for each in (await collector.collect())[-1].payload["containers"] if each["name"] == fed
        )
        assert (after["status"], after["exit_code"], after["oom_killed"]) == ("exited", 137, True)


@pytest.mark.docker
async def test_every_container_of_many_has_numbers_in_every_tick(daemon: Any, containers: Any) -> None:
    """Docker up to 24 answers one-shot requests at its next tick only: all of a tick have to be asked at once."""
    names = {await asyncio.to_thread(containers.run, "sleep", "1000") for _ in range(12)}
    collector = DockerCollector("web-1", stats_seconds=5.0)
    async with watching(collector):
        await until(lambda: collector.available, "the connection")
        for tick in range(2):
            entries = (await collector.collect())[-1].payload["containers"]
            ours = [each for each in entries if each["name"] in names]
            assert len(ours) == len(names)
            assert all(each["memory_used_bytes"] for each in ours)
            assert all((each["cpu_percent"] is not None) is (tick == 1) for each in ours)


@pytest.mark.docker
async def test_numbers_agree_with_docker_s_own(daemon: docker.APIClient, containers: Any) -> None:
    busy = await asyncio.to_thread(containers.run, "sh", "-c", "while :; do :; done")
    idle = await asyncio.to_thread(containers.run, "sleep", "1000")
    collector = DockerCollector("web-1")
    async with watching(collector):
        await until(lambda: collector.available, "the connection")
        first = await container(collector, busy)
        assert first["cpu_percent"] is None
        assert first["running"]
        assert first["restarts"] == 0
        assert first["started_at"].startswith("20")
        async with asyncio.timeout(20):
            while (await container(collector, busy))["cpu_percent"] in {None, 0.0}:
                await asyncio.sleep(0.5)
        # Both sides over the same second, as nearly as can be had.
        ours, theirs = [], []
        for _ in range(2):
            theirs_now = asyncio.create_task(asyncio.to_thread(daemon.stats, busy, stream=False))
            await container(collector, busy)
            stats = await theirs_now
            ours.append((await container(collector, busy))["cpu_percent"])
            cpu = (
                stats["cpu_stats"]["cpu_usage"]["total_usage"]
                - stats["precpu_stats"]["cpu_usage"]["total_usage"]
            )
            system = stats["cpu_stats"]["system_cpu_usage"] - stats["precpu_stats"]["system_cpu_usage"]
            theirs.append(cpu / system * stats["cpu_stats"]["online_cpus"] * 100)
        assert max(ours) > 20
        assert abs(sum(ours) - sum(theirs)) / 2 < 40
        quiet = await container(collector, idle)
        assert quiet["cpu_percent"] < 5
        assert 0 < quiet["memory_used_bytes"] < quiet["memory_limit_bytes"]


@pytest.mark.docker
async def test_health_is_told(daemon: Any, containers: Any) -> None:
    options = ("--health-cmd", "true", "--health-interval", "1s")
    collector = DockerCollector("web-1")
    async with watching(collector) as told:
        await until(lambda: collector.available, "the connection")
        name = await asyncio.to_thread(containers.run, "sleep", "1000", options=options)
        await until(lambda: ("health_status", "running") in told.changes(name), "health")
        assert (await container(collector, name))["health"] == "healthy"


@pytest.mark.docker
async def test_a_cut_event_stream_is_mended_without_a_word(way: Any, containers: Any) -> None:
    collector = DockerCollector("web-1", connect=way.connect)
    async with watching(collector) as told:
        await until(lambda: collector.available, "the connection")
        name = await asyncio.to_thread(containers.run, "sleep", "1000")
        await until(lambda: ("start", "running") in told.changes(name), "the start")
        await way.cut(close=False)
        await until(lambda: not collector.available, "the cut")
        await asyncio.to_thread(containers.remove_all)
        await until(lambda: collector.available, "the connection again")
        assert ("listed", None) in told.changes(name)  # found by the list, not by an event
        assert told.availability() == []


@pytest.mark.docker
async def test_a_daemon_that_goes_away_is_told_and_comes_back(way: Any, containers: Any) -> None:
    name = await asyncio.to_thread(containers.run, "sleep", "1000")
    collector = DockerCollector("web-1", connect=way.connect, retry_seconds=0.1)
    async with watching(collector) as told:
        await until(lambda: collector.available, "the connection")
        assert (await container(collector, name))["status"] == "running"
        await way.cut(close=True)
        await until(lambda: told.availability() == [False], "the absence")
        assert "no socket" in collector.detail
        assert await collector.collect() == []
        await way.open()
        await until(lambda: collector.available, "the return")
        assert (await container(collector, name))["running"]
        assert collector.detail == "Docker is there"


@pytest.mark.docker
async def test_a_daemon_that_hangs_is_told_as_away_and_comes_back(way: Any, containers: Any) -> None:
    """It ends no stream, so only its silence tells; the list is not due for half a minute."""
    name = await asyncio.to_thread(containers.run, "sleep", "1000")
    collector = DockerCollector("web-1", connect=way.connect, retry_seconds=0.1)
    async with watching(collector) as told:
        await until(lambda: collector.available, "the connection")
        assert (await container(collector, name))["status"] == "running"
        way.flows.clear()
        async with asyncio.timeout(15):
            while told.availability() != [False]:
                await collector.collect()
                await asyncio.sleep(0.05)
        assert "does not answer" in collector.detail
        way.flows.set()
        await until(lambda: collector.available, "the return")
        assert (await container(collector, name))["status"] == "running"
