"""YAML that people write, as nodes that know their line; pure. Whatever the text is, what is wrong with it is one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node

_LET_THROUGH = (ValueError, IndexError, AttributeError, TypeError)
"""What ruamel.yaml raises besides, for some malformed texts."""


class YamlError(Exception):
    """A text that is no YAML; ``line`` counts from 1, and is None where it is not known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(f"not YAML: {reason}")
        self.line = line


def composed(text: str) -> Node | None:
    """Return the root of a document, None of an empty one; raises YamlError."""
    root: Node | None = _read(_yaml().compose, text)
    return root


def loaded(text: str) -> Any:
    """Return what a document says, without its lines; raises YamlError."""
    return _read(_yaml().load, text)


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _read(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except MarkedYAMLError as error:
        mark, context = error.problem_mark or error.context_mark, error.context_mark
        begins = (
            f" ({error.context} that begins in line {int(context.line) + 1})"
            if error.context and context
            else ""
        )
        raise YamlError(
            f"{error.problem or error.context}{begins}", int(mark.line) + 1 if mark else None
        ) from error
    except YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise YamlError("it is nested too deeply") from error
    except _LET_THROUGH as error:
        raise YamlError(f"{type(error).__name__}: {error}") from error
