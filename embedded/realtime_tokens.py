"""Tokens at the door of the Realtime server: what `keys` says of them, in the terms of the protocol."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from embedded import keys as key_store
from embedded.errors import InvalidToken
from embedded.phoenix.channel import Token
from embedded.phoenix.errors import TokenFault, TokenRefused

if TYPE_CHECKING:
    from embedded.keys import Keys

_FAULTS: Final = {
    "malformed": TokenFault.MALFORMED,
    "signature": TokenFault.SIGNATURE,
    "signer": TokenFault.SIGNER,
    "expired": TokenFault.EXPIRED,
    "fields": TokenFault.CLAIMS,
}


class TokenVerifier:
    """Turns the text of a token into a Token, or says why it does not count."""

    def __init__(self, keys: Keys) -> None:
        self._secret = keys.jwt_secret
        # hosted Supabase's gateway swaps the new opaque keys for tokens; there is no other gateway here
        self._opaque = {keys.publishable_key: keys.anon_key, keys.secret_key: keys.service_role_key}

    def __call__(self, raw: str, now: float) -> Token:
        """Return the token in `raw`, valid at `now` (seconds since 1970); raises TokenRefused."""
        text = "".join(unquote(self._opaque.get(raw, raw)).split())
        try:
            claims = key_store.verify(text, self._secret, now_seconds=now)
        except InvalidToken as error:
            fault = _FAULTS[error.fault]
            raise TokenRefused(fault, error.reason, expired_seconds=error.expired_seconds or 0) from error
        ordered = json.dumps(dict(claims), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return Token(raw=raw, role=claims["role"], claims=ordered, expires_at=float(claims["exp"]))
