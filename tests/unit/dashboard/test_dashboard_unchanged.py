"""An answer is kept while its input is equal, and no longer."""

from __future__ import annotations

import pytest

from dashboard.unchanged import Unchanged


def test_it_is_made_again_only_for_another_input() -> None:
    made: list[str] = []
    kept: Unchanged[int] = Unchanged()

    def ask(clients: dict[str, str], flags: str) -> int:
        def make() -> int:
            made.append(flags)
            return len(made)

        return kept.answer((flags, dict(clients)), make)

    clients = {"web-1": "legacy"}
    assert [ask(clients, "a"), ask({"web-1": "legacy"}, "a")] == [1, 1]
    assert ask(clients, "b") == 2
    clients["web-2"] = "legacy"
    assert [ask(clients, "b"), ask(clients, "b")] == [3, 3]
    assert ask(clients, "a") == 4
    assert made == ["a", "b", "b", "a"]


def test_what_failed_is_asked_again_and_nothing_older_is_told() -> None:
    kept: Unchanged[str] = Unchanged()
    assert kept.answer(1, lambda: "one") == "one"

    def fails() -> str:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        kept.answer(2, fails)
    assert kept.answer(2, lambda: "two") == "two"
    assert kept.answer(1, lambda: "one again") == "one again"
