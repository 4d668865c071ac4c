"""Numbers and words out of what another machine prints: whatever is not one is None. Pure."""

from __future__ import annotations

import math
import re

_LARGEST = 2**63 - 1
"""What JSON readers and PostgreSQL's bigint take; no counter of a real machine is larger for long."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
"""Not to be shown, and partly (NUL, lone surrogates) not to be stored as jsonb."""


def decode(output: bytes) -> str:
    """Return a machine's bytes as text; what is no UTF-8 shows as a replacement character, and NUL is left out."""
    return output.decode("utf-8", "replace").replace("\0", "")


def count(text: str) -> int | None:
    """Read a decimal number from 0 to 2^63-1."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19:  # noqa: PLR2004 - the digits of 2^63
        return None
    number = int(text)
    return number if number <= _LARGEST else None


def measure(text: str, *, largest: float = 1e15) -> float | None:
    """Read a number from 0 to ``largest``."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 <= number <= largest else None


def words(text: object, limit: int = 200) -> str | None:
    """Return a text for people: without control characters, in ``limit`` characters; None for none."""
    if not isinstance(text, str):
        return None
    return _CONTROL.sub(" ", text).strip()[:limit] or None
