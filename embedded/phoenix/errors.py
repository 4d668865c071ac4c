"""What can be wrong with what a client sent.

PhoenixError
├── TokenRefused        a JWT that does not count; knows the wording of each place it is told at
├── JoinRefused         a phx_join that is answered with an error
└── BadSubscription     a postgres_changes binding that cannot be: told in a `system` frame, the join is fine
"""

from __future__ import annotations

from enum import StrEnum


class PhoenixError(Exception):
    """Base of the errors of this package; the text is what the client is told."""


class TokenFault(StrEnum):
    """Why a token does not count; the value is the reason code that a join is refused with."""

    MALFORMED = "MalformedJWT"
    SIGNATURE = "JwtSignatureError"
    SIGNER = "JwtSignerError"
    EXPIRED = "InvalidJWTToken"
    CLAIMS = "InvalidJWTToken: "


class TokenRefused(PhoenixError):  # noqa: N818  # named as it is read: raise TokenRefused
    """A token that is not valid here.

    `text` is the sentence of the handshake; the other places word it slightly differently, as measured.
    `expired_seconds` is how long ago it ran out, for an expired one.
    """

    def __init__(self, fault: TokenFault, text: str, *, expired_seconds: int = 0) -> None:
        super().__init__(text)
        self.fault = fault
        self.text = text
        self.expired_seconds = expired_seconds

    @property
    def channel_text(self) -> str:
        """The sentence of a `system` frame, sent when a joined channel is given this token."""
        match self.fault:
            case TokenFault.EXPIRED:
                return f"Token has expired {self.expired_seconds} seconds ago"
            case TokenFault.SIGNATURE:
                return ":signature_error"  # what the real server says, an Elixir atom inspected
            case _:
                return self.text

    @property
    def join_reason(self) -> str:
        """The reason of a refused phx_join."""
        code = self.fault.value.removesuffix(": ")
        detail = self.channel_text if self.fault is TokenFault.EXPIRED else self.text
        return f"{code}: {detail}"


class JoinRefused(PhoenixError):  # noqa: N818  # as above
    """A phx_join that is answered with status `error` and this reason."""


class BadSubscription(PhoenixError):  # noqa: N818  # as above
    """postgres_changes parameters that cannot work; the channel is joined and never gets a change."""
