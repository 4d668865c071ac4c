"""``crossfade keys``: what is seen to be wrong before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossfade.cli.app import app, register
from crossfade.errors import CrossfadeError, UsageError


def revoked(prefix: str, data_dir: Path) -> BaseException | None:
    register(["keys"])
    return CliRunner().invoke(app, ["keys", "revoke", prefix, "--data-dir", str(data_dir)]).exception


@pytest.mark.parametrize("prefix", ["x", "cfk_", "0123", "../users"])
def test_what_is_no_prefix_is_refused_with_where_to_look(prefix: str, tmp_path: Path) -> None:
    error = revoked(prefix, tmp_path)
    assert isinstance(error, UsageError)
    assert "crossfade keys list shows it" in str(error)


@pytest.mark.parametrize("prefix", ["0123456789ab", "cfk_0123456789ab", "cfk_0123456789ab_secret"])
def test_a_key_and_its_beginning_are_taken(prefix: str, tmp_path: Path) -> None:
    error = revoked(prefix, tmp_path)
    assert isinstance(error, CrossfadeError)
    assert not isinstance(error, UsageError)
