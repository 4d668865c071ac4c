"""One part in the foreground, beside a `crossfade up` that runs the others."""

from __future__ import annotations

import signal
import socket
import subprocess

import httpx
import pytest

from embedded.ports import free_port
from tests.e2e.installation import Installation, finish, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def ready(process: subprocess.Popen[str], port: int) -> bool:
    """Ask a service whether it is; fails when it has ended."""
    assert process.poll() is None, process.communicate()
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("part", ["analytics", "control"])
def test_a_service_is_served_alone_ready_with_its_database_and_ends_when_told(
    installation: Installation, part: str
) -> None:
    port = free_port("127.0.0.1")
    process = installation.begin("serve", part, "--port", str(port))
    wait_until(f"{part} is ready", lambda: ready(process, port), 60)
    assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).json()["status"] == "live"
    process.send_signal(signal.SIGTERM)
    finish(process, 20)
    assert process.returncode == 0


def test_a_port_that_is_taken_is_named_with_the_way_out(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = installation.run("serve", "push", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "legacy cannot listen on 127.0.0.1" in done.stderr
    assert "choose another port with --port-legacy" in done.stderr


def test_what_is_no_part_and_what_has_no_port_is_refused(installation: Installation) -> None:
    assert "'redis' is not a part" in installation.run("serve", "redis").stderr
    assert "collect has no port" in installation.run("serve", "collect", "--port", "1234").stderr
