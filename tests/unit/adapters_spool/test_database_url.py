from __future__ import annotations

import pytest

from adapters.database_url import InvalidDatabaseUrl, asyncpg_url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql://u:p@h:5432/d"),
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql+asyncpg://u:p%40x@h/d", "postgresql://u:p%40x@h/d"),
        (" postgresql+psycopg2://u@h/d\n", "postgresql://u@h/d"),
        ("postgresql+asyncpg://u@h/d?ssl=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql+asyncpg://u@h/d?ssl=true", "postgresql://u@h/d?sslmode=require"),
        (
            "postgres://u@h/d?pgbouncer=true&sslmode=verify-full&schema=x",
            "postgresql://u@h/d?sslmode=verify-full",
        ),
        ("postgresql://u@/d?host=/run/my%20dir&port=5", "postgresql://u@/d?host=/run/my%20dir&port=5"),
    ],
)
def test_known_forms_become_asyncpg_s(given: str, expected: str) -> None:
    assert asyncpg_url(given) == expected
    assert asyncpg_url(expected) == expected


@pytest.mark.parametrize(
    "given", ["", "http://x", "sqlite:///x.db", "h:5432/d", "postgresql://u:secret/7@h:port/d"]
)
def test_anything_else_is_refused_without_showing_it(given: str) -> None:
    with pytest.raises(InvalidDatabaseUrl) as caught:
        asyncpg_url(given)
    assert "secret" not in str(caught.value)
