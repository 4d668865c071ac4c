"""Every recorded conversation with the real server, held again with ours."""

import os
from pathlib import Path

import pytest

from tests.conformance import compare, transcript
from tests.conformance.differences import NOT_REPLAYED, unexplained
from tests.conformance.player import replay

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.jsonl"))


def scenarios():
    for path in TRANSCRIPTS:
        reason = NOT_REPLAYED.get(path.stem)
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", list(scenarios()))
async def test_the_same_frames_as_the_real_server(path, served, tmp_path):
    """Replays one transcript. CROSSFADE_CONFORMANCE_DIR keeps what ours answered, for other tools."""
    recorded = transcript.load(path)
    lines = await replay(recorded, served.port, served.database)
    keep = Path(os.environ.get("CROSSFADE_CONFORMANCE_DIR", tmp_path))
    keep.mkdir(parents=True, exist_ok=True)
    transcript.save(keep / path.name, lines)
    left, idle = unexplained(path.stem, compare.differences(recorded.lines, lines))
    assert not left, f"{recorded.description}\n" + "\n".join(str(difference)[:600] for difference in left)
    assert not idle, f"explains nothing any more: {idle}"
