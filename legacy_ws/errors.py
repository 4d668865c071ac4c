"""The errors of the legacy side.

::

    LegacyError
    ├── MalformedMessage   the peer sent something that is not a message of the dialect
    │   └── UnknownMessage a well-formed message of a type the dialect does not have
    ├── PortTaken          the address is in use by another process
    ├── InvalidMount       a setting that does not say which dialect is spoken where
    ├── ExportFailed       a file could not be written
    └── TokenUnreadable    a file with a secret cannot be read
"""

from __future__ import annotations


class LegacyError(Exception):
    """Base of every error this package raises."""


class MalformedMessage(LegacyError):  # noqa: N818 - named for what it is, like the others of the tree
    """A message that breaks its dialect; ``reason`` is short enough to be sent back."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownMessage(MalformedMessage):
    """A message of a type that the dialect does not have."""

    def __init__(self, type_: object, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown message type {shown(type_)}; this server understands {', '.join(known)}")
        self.type = type_


class PortTaken(LegacyError):  # noqa: N818
    """The address to listen on is not free; ``what`` is what would have been served there."""

    def __init__(self, host: str, port: int, what: str, option: str = "--port") -> None:
        super().__init__(
            f"port {port} on {host}, for {what}, is taken by another process; stop it or choose another with {option}"
        )
        self.host = host
        self.port = port


class InvalidMount(LegacyError):  # noqa: N818
    """A mount that cannot be meant."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"mount {shown(text)}: {reason}")
        self.reason = reason


class ExportFailed(LegacyError):  # noqa: N818
    """An export could not be written; ``reason`` is short enough to be sent to a client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TokenUnreadable(LegacyError):  # noqa: N818
    """A secret cannot be read."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"the token file {path} cannot be used: {reason}; name another with --token-file or --stream-token-file"
        )
        self.path = path


def shown(value: object, limit: int = 80) -> str:
    """Return a foreign value for an error message, cut so that the peer cannot fill our logs."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
