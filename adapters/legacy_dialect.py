"""What the legacy server's answers and failures mean to us: foreign errors in, the port's errors out."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from adapters.errors import AdapterError
from legacy_ws.errors import LegacyError
from monitoring.errors import Refused, Unreachable
from monitoring.service import Backend

_HINTS = {
    401: "check the link's token",
    403: "check the token and the allowed origins",
    404: "check the path of the address; dashboards use /ws",
    426: "this path does not speak WebSocket",
}
_SERVER_ERRORS = 500


class Misbehaved(AdapterError):  # noqa: N818 - named for what it is, like the others of the tree
    """The server broke its dialect; a new connection may do better."""


class NotUnderstood(AdapterError):  # noqa: N818
    """The server does not know a message that we cannot do without; trying again will not help."""


class Silent(AdapterError):  # noqa: N818
    """The server did not answer a ping in time."""


CONNECTION_ERRORS = (
    OSError,
    TimeoutError,
    WebSocketException,
    LegacyError,
    Misbehaved,
    NotUnderstood,
    Silent,
)
"""All that can end a connection to a legacy server."""


def shown(url: str) -> str:
    """Return an address for people: without what may be a secret in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def is_here(url: str) -> bool:
    """Tell whether the server is on this machine, by its address: what goes there crosses no network."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def explain(url: str, error: BaseException) -> Refused | Unreachable:
    """Return what a failed connection means: Refused when waiting will not help, else Unreachable."""
    url = shown(url)
    match error:
        case InvalidStatus():
            return _explain_status(url, error)
        case InvalidURI():
            return _refused(f"{url} is not an address", "use ws://HOST:PORT/ws")
        case InvalidMessage() if isinstance(error.__cause__, EOFError | ConnectionError):
            return _unreachable(f"{url} closed the connection during the handshake")
        case InvalidHandshake():
            return _refused(
                f"{url} does not speak WebSocket ({error})", "is this the legacy server's address?"
            )
        case NotUnderstood():
            return _refused(f"{url}: {error}", "is this a server of Crossfade's own /ws dialect?")
        case _:
            return _unreachable(f"{url}: {_sentence(error)}")


def _explain_status(url: str, error: InvalidStatus) -> Refused | Unreachable:
    status = error.response.status_code
    line = (error.response.body or b"").decode(errors="replace").strip().partition("\n")[0][:200]
    answer = f"{url} answered HTTP {status}" + (f" ({line})" if line else "")
    if status >= _SERVER_ERRORS:
        return _unreachable(answer)
    return _refused(answer, _HINTS.get(status, "is this the legacy server's address?"))


def _sentence(error: BaseException) -> str:
    match error:
        case ConnectionClosed() if error.rcvd is not None:
            return f"the server closed the connection with {error.rcvd.code} {error.rcvd.reason}".rstrip()
        case ConnectionClosed():
            return "the connection was lost"
        case TimeoutError():
            return "no answer in time"
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error)


def _refused(reason: str, hint: str) -> Refused:
    return Refused(Backend.LEGACY, reason, hint)


def _unreachable(reason: str) -> Unreachable:
    return Unreachable(Backend.LEGACY, reason)
