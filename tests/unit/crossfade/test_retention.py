from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crossfade.retention import Trims, parse_keep, shown
from monitoring.events import StreamId

NOW = datetime(2026, 11, 26, tzinfo=UTC)
STORE = {"used_bytes": 2_000_000_000, "limit_bytes": 10_000_000_000, "trims": 0, "trimmed": None}


def test_times_are_read_by_level() -> None:
    assert parse_keep("raw=2d, 1h=400d,events=90m,") == {
        "raw": "172800 seconds", "1h": "34560000 seconds", "events": "5400 seconds",
    }  # fmt: skip
    assert parse_keep("") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5m=2d", "there is no level '5m'"),
        ("raw", "raw: '' is not a duration"),
        ("raw=2x", "raw: '2x' is not a duration"),
        ("raw=2h", "raw is kept for at least 1d, not 2h"),
        ("events=5", "events is kept for at least 1m, not 5"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_keep(text)


def test_the_store_is_shown_in_a_few_words() -> None:
    assert shown(STORE) == "2.0 GB of 10.0 GB stored"
    full = {**STORE, "used_bytes": 5e6, "trims": 3, "trimmed": "cf_samples_20261120"}
    assert shown(full).startswith("5.0 MB of 10.0 GB stored, 3 partitions dropped to stay within it")


def test_each_trim_is_told_once_and_those_of_earlier_not_at_all() -> None:
    trims = Trims(StreamId("web-1/system"))
    assert trims.told(None, NOW) == []
    assert trims.told({**STORE, "trims": 2, "trimmed": "a"}, NOW) == []
    (draft,) = trims.told({**STORE, "trims": 5, "trimmed": "cf_samples_20261120"}, NOW)
    assert (draft.kind, draft.payload["partitions"]) == ("storage_trimmed", 3)
    assert "CROSSFADE_STORAGE_LIMIT_BYTES" in draft.payload["detail"]
    assert trims.told({**STORE, "trims": 5, "trimmed": "cf_samples_20261120"}, NOW) == []
