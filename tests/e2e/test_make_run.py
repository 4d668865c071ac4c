"""`make run`, as a newcomer types it, on free ports."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.installation import ROOT, clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def test_make_run_shows_where_to_look_and_ends_cleanly(tmp_path: Path) -> None:
    ports = " ".join(f"--port-{part} 0" for part in ("supabase", "database", "query", "legacy", "dashboard"))
    done = subprocess.run(
        ["make", "run", f"ARGS=--data-dir {tmp_path / 'data'} --for 30s {ports}"],
        cwd=ROOT, env=clean_environment(), timeout=180, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything is ready" in done.stdout
    assert "dashboard: http://127.0.0.1:" in done.stdout
    assert "postgres: stopped" in done.stdout
