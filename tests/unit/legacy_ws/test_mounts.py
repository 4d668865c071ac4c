"""Which dialect is spoken where."""

from __future__ import annotations

import pytest

from legacy_ws.errors import InvalidMount
from legacy_ws.mounts import Mount, parse_mounts
from legacy_ws.protocol.catalogue import catalogue

DIALECTS = catalogue()


def test_the_seeds_own_addresses():
    text = "8080/ws=dashboard, 8090/=containers,127.0.0.1:3000/ws=frontend,[::1]:8089/ws=metrics_update,"
    mounts = parse_mounts(text, DIALECTS)
    assert mounts == (
        Mount(8080, "/ws", "dashboard"),
        Mount(8090, "/", "containers"),
        Mount(3000, "/ws", "frontend", "127.0.0.1"),
        Mount(8089, "/ws", "metrics_update", "::1"),
    )
    assert parse_mounts(",".join(map(str, mounts)), DIALECTS) == mounts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("8080", "must look like"),
        ("8080/ws", "must look like"),
        ("/ws=dashboard", "must look like"),
        ("x/ws=dashboard", "must look like"),
        ("8080/w s=dashboard", "must look like"),
        ("8080/ws=chat", "'chat' is no dialect; dialects are dashboard, containers"),
        ("99999/ws=dashboard", "99999 is no port"),
        ("8080/ws?x=dashboard", "no dialect|no [?]|look like"),
        ("8080/link=dashboard", "own paths"),
        ("8080/exports/x=dashboard", "own paths"),
        ("8080/ws=dashboard,8080/ws=metrics", "named twice"),
    ],
)
def test_what_cannot_be_meant_is_named(text, reason):
    with pytest.raises(InvalidMount, match=reason):
        parse_mounts(text, DIALECTS)


def test_every_dialect_has_a_name_and_a_path_of_its_own():
    dialects = {name: make() for name, make in DIALECTS.items()}
    assert all(dialect.name == name for name, dialect in dialects.items())
    assert len({dialect.path for dialect in dialects.values()}) == len(dialects)
