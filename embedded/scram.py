"""PostgreSQL's stored form of a password, SCRAM-SHA-256 (RFC 5802, RFC 7677; PostgreSQL docs, pg_authid)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

_ITERATIONS = 4096
_SALT_BYTES = 16


def verifier(password: str, salt: bytes | None = None, iterations: int = _ITERATIONS) -> str:
    """Return what ``ALTER ROLE ... PASSWORD`` stores, so that the password itself never enters SQL.

    ``password`` must be ASCII: SASLprep, which SCRAM asks for, leaves ASCII as it is.
    """
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = (base64.b64encode(part).decode("ascii") for part in (salt, stored_key, server_key))
    salt_text, stored_text, server_text = encoded
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"


def matches(password: str, stored: str) -> bool:
    """Whether ``stored`` was made from ``password``; False for text that is no verifier."""
    try:
        scheme, parameters, _keys = stored.split("$")
        iterations, salt = parameters.split(":")
        made = verifier(password, base64.b64decode(salt, validate=True), int(iterations))
    except ValueError:
        return False
    return scheme == "SCRAM-SHA-256" and hmac.compare_digest(made, stored)
