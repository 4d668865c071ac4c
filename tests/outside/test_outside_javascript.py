"""The official JavaScript client on Node.js: each exported function of the files in js/ is one test."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.outside.conftest import JAVASCRIPT, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCENARIO = re.compile(r"^export async function (\w+)\(project\)", re.MULTILINE)
_ONE_VERSION = ("auth", "interop", "rest")  # no socket, or both versions inside
_SECONDS = 60


def scenarios() -> Iterator[tuple[str, str, str]]:
    """Find what the files promise; what is spoken over a socket runs in both versions."""
    for file in sorted(JAVASCRIPT.glob("*.mjs")):
        versions = ("2.0.0",) if file.stem in _ONE_VERSION else ("1.0.0", "2.0.0")
        for name in _SCENARIO.findall(file.read_text("utf-8")):
            for version in versions:
                yield file.stem, name, version


@pytest.mark.parametrize(("file", "name", "version"), list(scenarios()))
def test_javascript(project: Project, node_modules: Path, file: str, name: str, version: str) -> None:
    told = {
        "url": project.url,
        "vsn": version,
        "user_token": project.token(sub=str(uuid.uuid4())),
        **dataclasses.asdict(project.keys),
    }
    done = subprocess.run(
        ["node", "run.mjs", file, name],
        cwd=node_modules,
        env={**os.environ, "PROJECT": json.dumps(told)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
