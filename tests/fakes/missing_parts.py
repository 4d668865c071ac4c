"""What to do about a part that this machine lacks."""

from __future__ import annotations

import os

import pytest


def missing(what: str, provide: str) -> None:
    """Skip with the reason and the one command that provides it; a failure when CROSSFADE_REQUIRE_ALL=1."""
    message = f"{what} is not here; {provide}"
    if os.environ.get("CROSSFADE_REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
