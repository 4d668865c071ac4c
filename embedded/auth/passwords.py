"""Passwords as they are kept: scrypt with a salt of their own, in the PHC string format.

Pure but slow on purpose (about 200 ms and 16 MB each): call from a thread. Parameters as OWASP's password storage
cheat sheet lists them for 16 MiB; each hash carries its own, so that they can be raised later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final

_LOG_COST: Final = 14
_BLOCK_SIZE: Final = 8
_PARALLELISM: Final = 5
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_MEMORY_SLACK_BYTES: Final = 1 << 20
# a hash in the table may be anybody's: never more work than this for checking one
_MOST_LOG_COST: Final = 17
_MOST_BLOCK_SIZE: Final = 16
_MOST_PARALLELISM: Final = 16
_FORMAT: Final = re.compile(
    r"\$scrypt\$ln=(?P<ln>[0-9]{1,2}),r=(?P<r>[0-9]{1,2}),p=(?P<p>[0-9]{1,2})"
    r"\$(?P<salt>[A-Za-z0-9+/]+)\$(?P<hash>[A-Za-z0-9+/]+)"
)


def hash_password(password: str) -> str:
    """Return what to keep of a password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    derived = _derive(password, salt, _LOG_COST, _BLOCK_SIZE, _PARALLELISM, _HASH_BYTES)
    return f"$scrypt$ln={_LOG_COST},r={_BLOCK_SIZE},p={_PARALLELISM}${_encode(salt)}${_encode(derived)}"


def is_understood(kept: str) -> bool:
    """Say whether `kept` is a hash that `matches` can check; seed files may bring others."""
    return _parameters(kept) is not None


def matches(password: str, kept: str | None) -> bool:
    """Say whether `kept` is the hash of this password; False, as slowly, when there is none or of another kind."""
    found = _parameters(kept or "")
    if found is None:
        _derive(password, b"no such user", _LOG_COST, _BLOCK_SIZE, _PARALLELISM, _HASH_BYTES)
        return False
    cost, block, parallelism, salt, wanted = found
    return hmac.compare_digest(_derive(password, salt, cost, block, parallelism, len(wanted)), wanted)


def _parameters(kept: str) -> tuple[int, int, int, bytes, bytes] | None:
    match = _FORMAT.fullmatch(kept)
    if match is None:
        return None
    cost, block, parallelism = int(match["ln"]), int(match["r"]), int(match["p"])
    if not (
        1 <= cost <= _MOST_LOG_COST
        and 1 <= block <= _MOST_BLOCK_SIZE
        and 1 <= parallelism <= _MOST_PARALLELISM
    ):
        return None
    try:
        return cost, block, parallelism, _decode(match["salt"]), _decode(match["hash"])
    except binascii.Error:
        return None


def _derive(password: str, salt: bytes, cost: int, block: int, parallelism: int, length: int) -> bytes:
    memory = 128 * block * (2**cost + parallelism) + _MEMORY_SLACK_BYTES
    return hashlib.scrypt(
        password.encode(), salt=salt, n=2**cost, r=block, p=parallelism, maxmem=memory, dklen=length
    )


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
