"""The measurements of delivery in small: what they promise of our clients holds, and they do not rot."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benches import measured


async def outcomes(path: Path, program: str, *options: str) -> list[dict[str, object]]:
    """Run a measurement and return its lines; it fails by itself when an event was lost or came twice."""
    await measured(program, *options, "--json", path)
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_plain_client_loses_where_ours_does_not(tmp_path: Path) -> None:
    lines = await outcomes(tmp_path / "out", "loss.py", "--quick", "--only", "b cut", "d Realtime")
    by_client = {(line["scenario"], line["client"]): line for line in lines}
    assert len(by_client) == 4
    for (_, client), line in by_client.items():
        assert line["sent"]
        assert line["twice"] == line["disorder"] == 0
        assert (line["lost"] == 0) == (client == "ours")


async def test_clients_are_moved_while_everything_is_killed(tmp_path: Path) -> None:
    [line] = await outcomes(
        tmp_path / "out", "handover.py", "storm",
        *("--minutes", "0.25", "--round-trips", "3", "--clients", "10", "--rate", "100"),
    )  # fmt: skip
    assert len(line["kills"]) == 3
    assert line["events"] > 1000
    assert line["moves"] >= 10
    assert line["lost_or_twice"] == line["missing_at_the_end"] == line["gaps"] == 0


async def test_many_clients_are_moved_by_one_edit(tmp_path: Path) -> None:
    [line] = await outcomes(tmp_path / "out", "handover.py", "thousand", "--clients", "20")
    assert line["moves"] == 40
    assert all(seconds is not None for _, _, seconds in line["flag_edits"])
