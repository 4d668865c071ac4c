"""Database URLs in the forms that people have them in, as asyncpg reads them. Pure."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from adapters.errors import AdapterError

_SCHEMES = ("postgres", "postgresql")

_FOREIGN = frozenset(
    {"pgbouncer", "prepared_statement_cache_size", "statement_cache_size", "async_fallback", "schema"}
)
"""Options of other clients' URLs (Prisma, SQLAlchemy), which the server would refuse as unknown settings."""


class InvalidDatabaseUrl(AdapterError):  # noqa: N818 - named for what it is, like the others of the tree
    """A text that is not the URL of a PostgreSQL database; the message never shows a password."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"DATABASE_URL: {reason}; expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
        self.reason = reason


def as_role(url: str, role: str) -> str:
    """Return the URL of asyncpg's that becomes a role at once: one that the URL's user may become."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode({'role': role})}"


def asyncpg_url(url: str) -> str:
    """Return the URL without what only other clients know: SQLAlchemy's driver name and ``ssl=``, Prisma's options.

    Raises InvalidDatabaseUrl.
    """
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # parsed only when asked for
    except ValueError as error:
        # The reason may quote a piece of the password: an unescaped / or # in it is what usually breaks a URL.
        raise InvalidDatabaseUrl("it cannot be parsed (is the password percent-encoded?)") from error
    scheme, _, _driver = parts.scheme.partition("+")
    if scheme not in _SCHEMES:
        raise InvalidDatabaseUrl(f"the scheme is {parts.scheme!r}" if parts.scheme else "it has no scheme")
    options = [
        ("sslmode", {"true": "require", "false": "disable"}.get(value.lower(), value))
        if name == "ssl"
        else (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in _FOREIGN
    ]
    # quote, not quote_plus: a plus sign is no space to asyncpg, and the socket directory keeps its slashes
    return urlunsplit(
        ("postgresql", parts.netloc, parts.path, urlencode(options, safe="/", quote_via=quote), "")
    )
