from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.checks.config import HttpCheck, PostgresCheck, RedisCheck, load_checks, without_secrets
from collectors.checks.document import InvalidChecks

ROOT = Path(__file__).parents[4]
EXAMPLE = re.search(r"^```yaml\n(.*?)^```", (ROOT / "docs/checks.md").read_text(), re.MULTILINE | re.DOTALL)
assert EXAMPLE is not None
PAGE = EXAMPLE[1]


def test_the_example_of_the_page_is_read() -> None:
    checks = load_checks(PAGE, {"MONITOR_PASSWORD": "hidden"})
    assert list(checks) == ["shop", "front-page", "main-db", "cache"]
    shop, _, database, cache = checks.values()
    assert isinstance(shop, HttpCheck)
    assert (shop.every, shop.timeout_seconds, shop.slow, shop.certificate) == (30, 5, 1, 14 * 86400)
    assert shop.status == ((200, 299), (304, 304))
    assert shop.json_ == {"status": "ok", "database.connected": True}
    assert isinstance(database, PostgresCheck)
    assert "hidden" in database.postgres
    assert "hidden" not in database.target
    assert isinstance(cache, RedisCheck)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("checks: [", "line 1: not YAML"),
        ("checks: {}\nmore: 1\n", "the key `checks` and no other"),
        ("checks:\n  - a\n", "line 1: checks must be names"),
        ("checks:\n  a:\n    every: 1s\n", "line 2: a needs exactly one of http"),
        ("checks:\n  a:\n    http: http://h\n    redis: redis://h\n", "line 2: a needs exactly one"),
        ("checks:\n  a:\n    http: http://h\n    evry: 1s\n", "line 4: a.evry: there is no such key; there are body"),
        ("checks:\n  a:\n    http: http://h\n    every: 10\n", "line 4: a.every: write a duration with its unit"),
        ("checks:\n  a:\n    http: http://h\n    every: 0s\n", "line 4: a.every"),
        ("checks:\n  a:\n    http: ftp://h\n", "line 3: a.http: write a URL that begins with http://"),
        ("checks:\n  a:\n    http: http://h:99999\n", "line 3: a.http"),
        ("checks:\n  a:\n    http: http://h\n    status: 99\n", "line 4: a.status: '99' is no status"),
        ("checks:\n  a:\n    http: http://h\n  a:\n    http: http://h\n", "line 4: a is there twice"),
        ("checks:\n  a: &x\n    http: http://h\n", "line 2: anchors and tags"),
        ("checks:\n  a b:\n    http: http://h\n", "line 2: 'a b' is no name"),
        ("checks:\n  a:\n    http: http://h\n    device: 'x/y'\n", "line 4: a.device: device 'x/y'"),
        ("checks:\n  a:\n    http: http://h\n    headers:\n      X: 5\n", "line 5: a.headers.X"),
        ("checks:\n  a:\n    redis: redis://:${NOT_SET}@h\n", "line 3: the environment has no NOT_SET"),
        ("checks:\n  a:\n    postgres: mysql://h/d\n", "line 3: a.postgres"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidChecks) as caught:
        load_checks(text, {})
    assert said in str(caught.value)


def test_secrets_are_not_shown() -> None:
    assert without_secrets("https://u:p@h:1/a?token=x#y") == "https://u@h:1/a"
    assert without_secrets("redis://:p@h/0") == "redis://h/0"


def test_a_timeout_leaves_room_before_the_next_reading() -> None:
    check = load_checks("checks: {a: {http: 'http://h', every: 5s, timeout: 60s}}", {})["a"]
    assert check.timeout_seconds == 4


@given(st.text(alphabet=PAGE, max_size=300) | st.text(max_size=100))
def test_any_other_text_is_refused_and_nothing_else(text: str) -> None:
    with suppress(InvalidChecks):
        load_checks(text, {})


@given(st.integers(0, len(PAGE)), st.text(max_size=5))
def test_a_page_with_a_mistake_in_it_is_read_or_refused(place: int, noise: str) -> None:
    with suppress(InvalidChecks):
        load_checks(PAGE[:place] + noise + PAGE[place:], {"MONITOR_PASSWORD": "x"})
