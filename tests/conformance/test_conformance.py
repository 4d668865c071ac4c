"""Every recorded conversation with the real server, held again with ours."""

import dataclasses
import os
from collections import Counter
from pathlib import Path

import pytest

from embedded.habits import habits
from tests.conformance import compare, transcript
from tests.conformance.differences import NOT_REPLAYED, rewritten, unexplained
from tests.conformance.player import replay

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.jsonl"))

# what these are about is off unless asked for
HABITS = {"limits": ["hosted-limits"], "limit_joins": ["hosted-limits"], "rest_broadcast": ["hosted-limits"]}


def scenarios():
    for path in TRANSCRIPTS:
        reason = NOT_REPLAYED.get(path.stem)
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        yield pytest.param(path, {"habits": habits(HABITS.get(path.stem, ()))}, id=path.stem, marks=marks)


async def compared(path, served, folder):
    """Replay a transcript, keep our answers in the folder, and return the differences."""
    recorded = transcript.load(path)
    expected, stale = rewritten(path.stem, recorded.lines)
    lines = await replay(dataclasses.replace(recorded, lines=tuple(expected)), served.port, served.database)
    folder.mkdir(parents=True, exist_ok=True)
    transcript.save(folder / path.name, lines)
    assert not stale, f"changes nothing in the recording any more: {stale}"
    return compare.differences(expected, lines)


@pytest.mark.parametrize(("path", "served"), list(scenarios()), indirect=["served"])
async def test_the_same_frames_as_the_real_server(path, served, tmp_path):
    """Replays one transcript. CROSSFADE_CONFORMANCE_DIR keeps what ours answered, for other tools."""
    folder = Path(os.environ.get("CROSSFADE_CONFORMANCE_DIR", tmp_path))
    left, idle = unexplained(path.stem, await compared(path, served, folder))
    counted = Counter(str(difference)[:600] for difference in left)
    description = transcript.load(path).description
    assert not left, f"{description}\n" + "\n".join(f"{n} x {text}" for text, n in counted.items())
    assert not idle, f"explains nothing any more: {idle}"
