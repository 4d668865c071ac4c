"""Which files are migrations."""

from pathlib import Path

import pytest

from embedded.errors import BadMigrationName
from embedded.migrations import find_migrations


def names(*files):
    return [(found.version, found.name) for found in find_migrations(Path("m") / file for file in files)]


def test_they_come_in_order_of_their_names():
    assert names("20260102000000_b_c.sql", "20260101000000_a.sql", "README.md", ".hidden.sql") == [
        ("20260101000000", "a"),
        ("20260102000000", "b_c"),
    ]


@pytest.mark.parametrize("file", ["a.sql", "2026.sql", "2026_.sql", "_x.sql", "x_2026.sql", "2026-01_x.sql"])
def test_other_names_are_refused(file):
    with pytest.raises(BadMigrationName, match="is not named"):
        names(file)


def test_a_version_twice_is_refused():
    with pytest.raises(BadMigrationName, match="same version as 1_a"):
        names("1_a.sql", "1_b.sql")
