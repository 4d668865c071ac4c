"""The seeds' own JSON, quoted in tests/fixtures/seeds, and whether a message of ours has its shape."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

_FIXTURES = Path(__file__).parent.parent / "fixtures" / "seeds"
_ELLIPSES = {"{...}": "{}", "[...]": "[]"}


def quoted(name: str) -> str:
    """Return a message as JSON: the seeds' ellipses are empty, their comments left out."""
    text = (_FIXTURES / f"{name}.json").read_text(encoding="utf-8")
    text = re.sub(r"\s//.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"[\[{]\.\.\.[\]}]", lambda match: _ELLIPSES[match[0]], text)


def seed(name: str) -> Any:
    """Return a message of a seed, parsed."""
    return json.loads(quoted(name))


def assert_like(ours: Any, seeds: Any, extra: Collection[str] = (), at: str = "message") -> None:
    """Fail unless ours has the seed's keys in its order and its types; of more keys only the ``extra`` ones.

    An empty object or list of the seed stands for any; null on either side for any value.
    """
    if seeds is None or ours is None:
        return
    if isinstance(seeds, dict):
        assert isinstance(ours, dict), f"{at} is {ours!r}"
        if seeds:
            assert [key for key in ours if key in seeds] == list(seeds), f"keys of {at}"
            assert set(ours) - set(seeds) <= set(extra), f"more keys in {at}"
        for key, value in seeds.items():
            assert_like(ours[key], value, extra, f"{at}.{key}")
    elif isinstance(seeds, list):
        assert isinstance(ours, list), f"{at} is {ours!r}"
        for number, item in enumerate(ours if seeds else ()):
            assert_like(item, seeds[0], extra, f"{at}[{number}]")
    elif isinstance(seeds, int | float) and not isinstance(seeds, bool):
        assert isinstance(ours, int | float), f"{at} is {ours!r}"
        assert not isinstance(ours, bool), f"{at} is {ours!r}"
    else:
        assert type(ours) is type(seeds), f"{at} is {ours!r}"
