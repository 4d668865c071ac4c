"""Fixtures for every test: whatever a test starts is ended, and what a machine lacks is said."""

from __future__ import annotations

import os

import pytest


def missing(what: str, provide: str) -> None:
    """Skip for a part this machine lacks; a failure when CROSSFADE_REQUIRE_ALL=1."""
    message = f"{what} is not here; {provide}"
    if os.environ.get("CROSSFADE_REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
