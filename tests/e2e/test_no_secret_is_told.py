"""No log, state or report of a whole run holds a secret: every one there is, looked for in every file and answer."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.e2e.installation import Installation

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

SECRET_FILES = {"supabase/keys.json", "legacy/link.token", "legacy/stream.token"}


def secrets(data: Path, *more: str) -> dict[str, str]:
    """Return every secret of an installation by its name."""
    keys = json.loads((data / "supabase/keys.json").read_text())
    found = {name: value for name, value in keys.items() if name not in {"anon_key", "publishable_key"}}
    found |= {name: (data / f"legacy/{name}.token").read_text().strip() for name in ("link", "stream")}
    found |= {f"given {number}": value for number, value in enumerate(more)}
    assert len(found) >= 5, found.keys()
    assert all(len(value) >= 16 for value in found.values()), "too short to be looked for"
    return found


def written(data: Path) -> dict[str, str]:
    """Return the text of every file but those that are there to hold a secret, and the database's own."""
    files = {}
    for path in [*data.rglob("*"), data.parent / "up.log"]:
        name = str(path.relative_to(data.parent))
        inside = name.removeprefix(f"{data.name}/")
        if path.is_file() and inside not in SECRET_FILES and not inside.startswith("supabase/pgdata"):
            files[name] = path.read_bytes().decode(errors="replace")
    return files


def test_no_secret_is_in_any_file_or_report(installation: Installation) -> None:
    data = installation.directory / ".crossfade"
    state = json.loads((data / "run/state.json").read_text())
    ports = state["addresses"]
    query, control = (f"http://127.0.0.1:{ports[f'port_{part}']}" for part in ("query", "control"))
    token = installation.run("token", "ann", "--role", "operator").stdout.strip()
    key = installation.run("keys", "create", "the shop").stdout.strip()
    assert token.count(".") == 2
    assert key.startswith("cfk_")
    # What goes well, and what does not: both are logged somewhere.
    for shown in (token, key, token[:-3] + "xyz", key[:-3] + "xyz"):
        headers = {"Authorization": f"Bearer {shown}"}
        for url in (
            f"{query}/api/heads",
            f"{query}/api/events/after",
            f"{control}/api/commands",
            f"{control}/api/audit",
        ):
            for method in ("GET", "POST"):
                httpx.request(method, url, headers=headers, json={"events": [{"token": shown}]}, timeout=30)
        httpx.post(f"{query}/api/events", headers=headers, json={"events": [{"id": "x"}]}, timeout=30)
    reports = [
        installation.run(*words).stdout
        for words in (
            *(("status",), ("status", "--format", "json"), ("doctor", "--format", "json")),
            *(("keys", "list", "--format", "json"), ("commands", "agents")),
        )
    ]
    found = secrets(data, token, key, key[18:], token.rpartition(".")[2])
    places = written(data) | {f"report {number}": text for number, text in enumerate(reports)}
    assert len(places) > 10
    told = [
        (name, place) for place, text in places.items() for name, secret in found.items() if secret in text
    ]
    assert told == []


def test_every_answer_of_every_service_says_what_a_browser_must_not_do(installation: Installation) -> None:
    state = json.loads((installation.directory / ".crossfade/run/state.json").read_text())
    for part in ("query", "control"):
        at = f"http://127.0.0.1:{state['addresses'][f'port_{part}']}"
        for path in ("/health", "/ready", "/nowhere", "/api/heads", "/openapi.json"):
            headers = httpx.get(at + path, timeout=30).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["x-frame-options"] == "DENY", path
            assert "server" not in headers
