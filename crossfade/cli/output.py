"""Writing to stdout: JSON for programs."""

from __future__ import annotations

import os
import sys
from typing import Any

import orjson


def print_json(value: Any, *, indent: bool = True) -> None:
    """Write a value as JSON and a newline, at once."""
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    sys.stdout.buffer.write(orjson.dumps(value, option=option))
    sys.stdout.buffer.flush()


def discard_output() -> None:
    """Send what is still to be written to nowhere: whoever read it has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
