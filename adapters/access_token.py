"""When to ask for a new access token: before the old one ends, by its own ``exp``, without trusting or checking it."""

from __future__ import annotations

import base64
import binascii
import json

_MARGIN_SECONDS = 60.0
"""How long before its end a token of ordinary length is replaced."""
_LONGEST_SECONDS = 600.0
"""A token is looked at this often however long it lives: its owner may have changed it for another reason."""
_SHORTEST_SECONDS = 1.0


def expires_at(token: str) -> float | None:
    """Return a JWT's ``exp`` (seconds since 1970); None when it is none, or has none."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error, RecursionError):
        return None


def refresh_after(token: str, now: float) -> float:
    """Return in how many seconds to ask for the token's successor; ``now`` is the wall clock's, since 1970.

    A minute before the end; of a short life after two thirds. While its owner has no new one yet, asking again and
    again in this way comes ever closer to the end, at most once a second.
    """
    end = expires_at(token)
    if end is None:
        return _LONGEST_SECONDS
    left = end - now
    wait = left - _MARGIN_SECONDS if left > 3 * _MARGIN_SECONDS else left * 2 / 3
    return min(max(wait, _SHORTEST_SECONDS), _LONGEST_SECONDS)
