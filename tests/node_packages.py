"""Packages from npm that tests drive: installed from a lock file into a directory of the test run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.fakes.missing_parts import missing

ROOT = Path(__file__).parent.parent
_NODE = "install Node.js 20 or newer (apt-get install nodejs npm)"
_INSTALL_SECONDS = 120


def installed(programs: Path, place: Path, what: str) -> Path:
    """Copy the files of ``programs`` to ``place``, install what its lock file names, and return ``place``.

    Skips the test, saying that ``what`` is missing, where there is no npm or where it cannot get the packages.
    """
    if shutil.which("npm") is None:
        missing("Node.js with npm", _NODE)
    for file in programs.iterdir():
        if file.is_file():
            shutil.copy(file, place)
    command = ["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        missing(f"{what} ({said})", f"run `{' '.join(command)}` in {programs.relative_to(ROOT)}")
    return place
