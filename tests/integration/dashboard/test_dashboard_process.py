"""The dashboard as a process: what every answer forbids a browser, and how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crossfade.dashboard import imported, policy, prepare
from embedded.ports import free_port
from tests.e2e.installation import clean_environment

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 60


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "crossfade.dashboard", "--port", str(port)]
    environment = clean_environment(CROSSFADE_DATA_DIR=str(tmp_path / "data"), PYTHONPATH=str(ROOT))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=log)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def listening(process: subprocess.Popen[bytes], url: str) -> httpx.Response:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        assert process.poll() is None
        try:
            return httpx.get(url, timeout=5)
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_every_answer_says_what_a_browser_must_not_do(
    dashboard: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    process, url = dashboard
    page = listening(process, url)
    assert page.status_code == 200
    assert "<title>" in page.text
    (script,) = re.findall(r'src="\./(static/js/index[^"]+)"', page.text)
    for path in ("/", "/hosts", f"/{script}", "/_stcore/health", "/_stcore/host-config", "/media/none.png"):
        answer = httpx.get(url + path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["x-frame-options"] == "DENY", path
        assert answer.headers["referrer-policy"] == "no-referrer", path
        assert answer.headers["cross-origin-resource-policy"] == "same-origin", path
        assert "server" not in answer.headers, path
        allowed = dict(each.split(" ", 1) for each in answer.headers["content-security-policy"].split("; "))
        assert allowed["frame-ancestors"] == "'none'"
        assert allowed["default-src"] == "'self'"
        assert "'unsafe-inline'" not in allowed["script-src"]
        assert not re.search(r"https?:|\*", answer.headers["content-security-policy"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "GET /" not in (tmp_path / "log").read_text()


def test_the_page_s_own_scripts_are_allowed_by_their_hash() -> None:
    """The value is the example of CSP Level 3: ``printf 'doSomething();' | openssl dgst -sha256 -binary | base64``."""
    assert "'sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc='" in policy(
        "<script>doSomething();</script>"
    )


def test_what_the_script_imports_is_imported_before_anybody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shown_first").mkdir()
    (tmp_path / "shown_first" / "__init__.py").touch()
    (tmp_path / "shown_first" / "page.py").touch()
    script = tmp_path / "script.py"
    script.write_text("import nowhere.to.be.found\nfrom shown_first import page\nraise SystemExit(page)\n")
    assert imported(script.read_text()) == ["nowhere.to.be.found", "shown_first", "shown_first.page"]
    prepare(script)
    assert sys.modules.pop("shown_first.page")
    assert sys.modules.pop("shown_first")
