"""One running installation for the tests that only look; their own for those that break things."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with everything but the dashboard and Docker."""
    made = Installation(tmp_path_factory.mktemp("installation"))
    try:
        made.start("--without", "dashboard", "--no-docker")
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()


@pytest.fixture
def make_installation(tmp_path: Path) -> Iterator[Callable[[], Installation]]:
    """Make installations that end with the test."""
    with contextlib.ExitStack() as stack:

        def make() -> Installation:
            directory = tmp_path / f"installation-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            made = Installation(directory)

            def end() -> None:
                if made.process is not None and made.process.poll() is None:
                    made.stop()

            stack.callback(end)
            return made

        yield make
