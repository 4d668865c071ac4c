"""Installations for the tests that end or restart them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation


@pytest.fixture
def make_installation(tmp_path: Path) -> Iterator[Callable[[], Installation]]:
    """Make installations that end with the test."""
    with contextlib.ExitStack() as stack:

        def make() -> Installation:
            directory = tmp_path / f"installation-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            made = Installation(directory)

            stack.callback(made.remove)
            return made

        yield make
