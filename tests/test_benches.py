"""The benches are not run here, for they take long and are timed; that each can be begun is seen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = frozenset({"dashboard_hours.py", "socketio_peer.py"})
"""Begun by another bench, with other modules in reach."""
BENCHES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "bench").glob("*.py")
    if path.name not in PARTS and '__name__ == "__main__"' in path.read_text()
)

_LOAD = """
import json, runpy, sys
troubles = {}
for path in sys.argv[1:]:
    sys.path[0] = "bench"  # as when the script itself is run
    try:
        runpy.run_path(path, run_name="loaded")
    except ImportError as error:
        troubles[path] = repr(error)
    for name, module in list(sys.modules.items()):
        if "/bench/" in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]
print(json.dumps(troubles))
"""


@pytest.fixture(scope="module")
def troubles() -> dict[str, str]:
    """What kept a bench from being loaded, by its path."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *BENCHES],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("path", BENCHES)
def test_a_bench_can_be_begun(troubles: dict[str, str], path: str) -> None:
    assert troubles.get(path) is None


def test_make_bench_names_benches_that_exist() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nbench:")[2].partition("\n\n")[0]
    named = set(re.findall(r"bench/[\w*]+\.py", recipe))
    assert named
    for pattern in named:
        assert list(ROOT.glob(pattern)), pattern
