"""Somebody's own legacy server in the place of ours, through the installed command."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.e2e.installation import Installation, clean_environment, events
from tests.fakes.event_factory import event
from tests.fakes.plain_server import PlainServer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-own-legacy")]


async def test_its_events_reach_both_backends_and_status_and_doctor_say_what_it_is(tmp_path):
    async with PlainServer() as plain:
        # A secret in the address is the server's business and nobody's to read.
        address = f"{plain.url}?token=secret"
        made = Installation(tmp_path, clean_environment(CROSSFADE_LEGACY_URL=address))
        happening = asyncio.create_task(_happen(plain))
        try:
            await asyncio.to_thread(made.start, "--without", "dashboard", "--no-docker")
            assert "legacy backend: ws://127.0.0.1" in made.log
            assert {part["name"] for part in json.loads((tmp_path / ".crossfade/run/state.json").read_text())["parts"]} == {
                "postgres", "migrations", "realtime", "query", "bridge", "alerts",
            }  # fmt: skip
            for backend in ("legacy", "supabase"):
                watched = await asyncio.to_thread(made.run, "watch", "--backend", backend, "--for", "3")
                # On a busy machine an alert may fire, and is an event of its own.
                streams = {e["stream"] for e in events(watched.stdout) if "stream" in e} - {
                    "crossfade/alerts"
                }
                assert streams == {"web-1/system"}, watched
            for command in ("status", "doctor"):
                report = json.loads((await asyncio.to_thread(made.run, command, "--format", "json")).stdout)
                checks = {check["name"]: check for check in report["checks"]}
                assert checks["legacy"]["ok"]
                assert checks["legacy"]["detail"] == "answers; another's server, dialect plain-dashboard"
                assert checks["legacy"]["address"] == plain.url
                assert "events of 1 streams" in checks["bridge"]["detail"]
            compared = await asyncio.to_thread(
                made.run, "validate", "live", "--for", "8s", "--format", "json"
            )
            assert compared.returncode == 0, compared.stdout + compared.stderr
            report = json.loads(compared.stdout)
            assert report["counts"]["matched"] == report["decided"] > 50
            assert report["noise"] == 0.0
            await plain.stop()
            async with asyncio.timeout(30):
                while (await asyncio.to_thread(made.run, "status")).returncode == 0:
                    await asyncio.sleep(0.2)
            report = json.loads((await asyncio.to_thread(made.run, "status", "--format", "json")).stdout)
            assert {check["name"] for check in report["checks"] if not check["ok"]} == {"legacy", "bridge"}
            assert "secret" not in json.dumps(report) + made.log
        finally:
            happening.cancel()
            await asyncio.to_thread(made.remove)


async def _happen(plain):
    seq = 0
    while True:
        seq += 1
        await plain.broadcast(event("web-1/system", seq))
        await asyncio.sleep(0.1)
