"""What an agent may run, and the parameters it takes for it: an offer is fixed, a parameter only fills a hole in it. Pure.

The agent's own file is the one that counts; the control service checks by the copy that the agent registered, so that a
mistake is told to whoever makes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from monitoring.errors import MonitoringError

MAX_CHARACTERS = 1_000
"""Of one parameter, where the offer sets no smaller limit."""
HOLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class CommandState(StrEnum):
    """How far a command is."""

    QUEUED = "queued"
    """No agent has taken it yet."""
    TAKEN = "taken"
    """Its agent has it, and has acknowledged that."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It ended with a status other than 0, or could not be started."""
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """Its agent may not run it, or not with these parameters."""
    EXPIRED = "expired"
    """No agent took it in time; it was never run."""
    LOST = "lost"
    """Its agent ended or is silent: how it ended is not known, and it is not run again."""

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self not in {CommandState.QUEUED, CommandState.TAKEN, CommandState.RUNNING}


class InvalidParameters(MonitoringError):  # noqa: N818 - named for what it is
    """Parameters that an offer does not take; ``mistakes`` are (parameter, what is wrong)."""

    def __init__(self, mistakes: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {detail}" for name, detail in mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one hole takes: one of some words, a whole number in a range, or text of a pattern (never a leading dash)."""

    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
    max_characters: int = MAX_CHARACTERS
    default: str | None = None

    def mistake(self, value: str) -> str | None:
        """Return what is wrong with a value; None when nothing is."""
        if self.choices:
            return None if value in self.choices else f"must be one of {', '.join(self.choices)}"
        if len(value) > self.max_characters:
            return f"has more than {self.max_characters} characters"
        ranged = self.minimum is not None or self.maximum is not None
        return self._of_range(value) if ranged else self._of_text(value)

    def _of_text(self, value: str) -> str | None:
        if not value.isprintable():
            return "holds characters that are not printable"
        if value.startswith("-"):
            return "must not begin with a dash, which programs take for an option"
        if self.pattern and not re.fullmatch(self.pattern, value, re.ASCII):
            return f"must be of the form {self.pattern}"
        return None

    def _of_range(self, value: str) -> str | None:
        if not re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII):
            return "must be a whole number"
        low, high = self.minimum, self.maximum
        if (low is not None and int(value) < low) or (high is not None and int(value) > high):
            return f"must be {f'from {low}' if low is not None else ''}{f' to {high}' if high is not None else ''}".replace(
                "be  to", "be at most"
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """Return its form in an offer."""
        told = {
            "choices": list(self.choices),
            "minimum": self.minimum,
            "maximum": self.maximum,
            "pattern": self.pattern,
            "max_characters": self.max_characters,
            "default": self.default,
        }
        return {name: value for name, value in told.items() if value not in (None, [], "")}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return a parameter of an offer; raises KeyError, TypeError or ValueError for what is none.

        Without its pattern: one from another machine could keep ours busy for ever. The agent looks at it itself.
        """
        return cls(
            choices=tuple(str(each) for each in value.get("choices", ())),
            minimum=value.get("minimum"),
            maximum=value.get("maximum"),
            max_characters=int(value.get("max_characters", MAX_CHARACTERS)),
            default=value.get("default"),
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that an agent may run: a program with its arguments, as a list, never read by a shell."""

    run: tuple[str, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    description: str = ""
    timeout_seconds: float = 60.0
    """How long it may take at most; whoever submits it may ask for less."""

    def checked(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Return a value for every parameter; raises InvalidParameters with all that is wrong."""
        mistakes = [(name, "is not a parameter of it") for name in given if name not in self.parameters]
        values: dict[str, str] = {}
        for name, parameter in self.parameters.items():
            value = given.get(name, parameter.default)
            if value is None:
                mistakes.append((name, "is missing"))
            elif isinstance(value, bool) or not isinstance(value, (str, int)):
                mistakes.append((name, "must be text or a whole number"))
            elif (found := parameter.mistake(str(value))) is not None:
                mistakes.append((name, found))
            else:
                values[name] = str(value)
        if mistakes:
            raise InvalidParameters(mistakes)
        return values

    def arguments(self, given: Mapping[str, Any]) -> list[str]:
        """Return the program and its arguments; raises InvalidParameters. A value stays within its argument."""
        values = self.checked(given)
        return [HOLE.sub(lambda hole: values.get(hole[1], hole[0]), word) for word in self.run]

    def to_json(self) -> dict[str, Any]:
        """Return what the agent says of it when it registers; what it runs stays on its machine."""
        return {
            "description": self.description,
            "timeout_seconds": self.timeout_seconds,
            "parameters": {name: each.to_json() for name, each in self.parameters.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return an offer as it was registered; raises KeyError, TypeError or ValueError for what is none."""
        return cls(
            (),
            {name: Parameter.from_json(each) for name, each in dict(value["parameters"]).items()},
            str(value.get("description", "")),
            float(value["timeout_seconds"]),
        )
