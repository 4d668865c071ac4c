"""Several people change the flags at the same moment, with the installed command: each change is made, or refused and said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from adapters import flag_file
from monitoring.flags.loading import load
from tests.e2e.installation import CROSSFADE, clean_environment

SHIPPED = (Path(__file__).parents[3] / "flags.yaml").read_text()
CHANGES = {
    "live.percent": "7",
    "live.allow": "web-1",
    "live.deny": "web-2",
    "websocket_session_events": "false",
}


def test_every_change_is_made_and_audited_or_refused_and_said(tmp_path: Path) -> None:
    path, data = tmp_path / "flags.yaml", tmp_path / ".crossfade"
    path.write_text(SHIPPED)
    data.mkdir()
    editors = {
        key: subprocess.Popen(
            [
                CROSSFADE,
                "flags",
                "set",
                key,
                value,
                "--why",
                key,
                "--flags",
                str(path),
                "--data-dir",
                str(data),
            ],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for key, value in CHANGES.items()
    }
    made = set()
    for key, editor in editors.items():
        _, said = editor.communicate(timeout=120)
        if editor.returncode == 0:
            made.add(key)
        else:
            assert editor.returncode == 1, said
            assert "changed by somebody else in the meantime; look at it and try again" in said
    assert made, "somebody is always the first"
    flags = load(flag_file.read(path))
    assert (flags.weight == 7_000) is ("live.percent" in made)
    assert (flags.allow == {"web-1"}) is ("live.allow" in made)
    assert (flags.deny == {"web-2"}) is ("live.deny" in made)
    assert (flags.switched_off == {"websocket_session_events"}) is ("websocket_session_events" in made)
    assert path.read_text().startswith("# Who is served by which backend."), "comments stay"
    audit = (data / "rollout" / "flags.jsonl").read_text().splitlines()
    assert {json.loads(line)["why"] for line in audit} == made
