"""The agent's file: what it may run, and nothing else. Read strictly.

::

    commands:
      restart-shop:
        description: restart the shop's service
        run: [systemctl, restart, "shop@{instance}.service"]
        timeout: 2m
        parameters:
          instance: {choices: [a, b]}
    end: true

``run`` is a program and its arguments. It is started as it stands, never by a shell, so that a parameter cannot become
anything but a part of the argument it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from collectors.checks.document import InvalidChecks, read_document
from crossfade.durations import parse_duration
from crossfade.errors import CrossfadeError, UsageError
from monitoring.commands import HOLE, NAME, PARAMETER, Offer, Parameter

_LONGEST_SECONDS = 86_400.0


class InvalidOffers(CrossfadeError):  # noqa: N818 - named for what it is
    """The agent's file cannot be meant."""

    exit_code = 2

    def __init__(self, path: Path, reason: str, line: int | None = None) -> None:
        super().__init__(
            f"{path}{f', line {line}' if line else ''}: {reason}; correct it, then start the agent again"
        )
        self.line = line


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write a duration with its unit, for example 30s or 5m")  # noqa: TRY004 - pydantic's protocol
    try:
        return parse_duration(value).total_seconds()
    except UsageError as error:
        raise ValueError(str(error)) from None


class _Parameter(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    choices: list[str] = Field(default_factory=list, max_length=1000)
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
    max_characters: int = Field(default=1000, ge=1, le=10_000)
    default: str | int | None = None

    @model_validator(mode="after")
    def _limited(self) -> _Parameter:
        ways = [bool(self.choices), self.minimum is not None or self.maximum is not None, bool(self.pattern)]
        if sum(ways) != 1:
            raise ValueError(
                "say what it takes: choices, or minimum and maximum, or a pattern (one of the three)"
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern: {error}") from None
        if self.default is not None and (wrong := self.made().mistake(str(self.default))) is not None:
            raise ValueError(f"default {wrong}")
        return self

    def made(self) -> Parameter:
        return Parameter(
            tuple(self.choices),
            self.minimum,
            self.maximum,
            self.pattern,
            self.max_characters,
            None if self.default is None else str(self.default),
        )


class _Offer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    description: str = Field(default="", max_length=500)
    run: list[str] = Field(min_length=1, max_length=100)
    timeout: Annotated[float, BeforeValidator(_seconds)] = Field(default=60.0, le=_LONGEST_SECONDS)
    parameters: dict[str, _Parameter] = Field(default_factory=dict, max_length=50)

    @model_validator(mode="after")
    def _filled(self) -> _Offer:
        if HOLE.search(self.run[0]) or not self.run[0]:
            raise ValueError("run: the program itself must be fixed")
        holes = {name for word in self.run for name in HOLE.findall(word)}
        for name in self.parameters:
            if not PARAMETER.match(name):
                raise ValueError(f"parameters: {name!r} must be small letters, digits and _")
        if missing := holes - self.parameters.keys():
            raise ValueError(f"run: {', '.join(sorted(missing))} is no parameter of it")
        if unused := self.parameters.keys() - holes:
            raise ValueError(f"parameters: {', '.join(sorted(unused))} stands nowhere in run")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    commands: dict[str, _Offer] = Field(max_length=500)
    end: Literal[True]
    """A file that was cut short does not have it."""

    @model_validator(mode="after")
    def _named(self) -> _File:
        for name in self.commands:
            if not NAME.match(name):
                raise ValueError(f"commands: {name!r} must be small letters, digits, _ and -")
        return self


def read_offers(path: Path) -> Mapping[str, Offer]:
    """Return what the agent may run, by name; raises InvalidOffers."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise InvalidOffers(path, "there is no such file; it lists what the agent may run") from None
    except OSError as error:
        raise InvalidOffers(path, f"it cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InvalidOffers(path, "not UTF-8 text") from None
    try:
        document = read_document(text)
        told = _File.model_validate(document.data)
    except InvalidChecks as error:
        raise InvalidOffers(path, error.reason, error.line) from None
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
        at = ".".join(str(step) for step in first["loc"])
        raise InvalidOffers(path, f"{at}: {reason}" if at else reason, document.line(first["loc"])) from None
    return {
        name: Offer(
            tuple(each.run),
            {key: parameter.made() for key, parameter in each.parameters.items()},
            each.description,
            each.timeout,
        )
        for name, each in told.commands.items()
    }
