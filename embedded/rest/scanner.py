"""A cursor over one query parameter's text, with the tokens PostgREST's grammar is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedded.rest.errors import ParseError, bad_parameter, not_supported
from embedded.rest.model import Field, JsonStep

if TYPE_CHECKING:
    from collections.abc import Callable

_INT4_MAX = 2**31 - 1


class Scanner:
    """Reads `text` from left to right; what does not fit raises `ParseError` naming `parameter`."""

    __slots__ = ("parameter", "position", "text")

    def __init__(self, parameter: str, text: str, position: int = 0) -> None:
        self.parameter = parameter
        self.text = text
        self.position = position

    @property
    def at_end(self) -> bool:
        """True when everything is read."""
        return self.position >= len(self.text)

    def peek(self, token: str) -> bool:
        """Return whether `token` comes next."""
        return self.text.startswith(token, self.position)

    def accept(self, token: str) -> bool:
        """Read `token` if it comes next, and return whether it did."""
        if self.peek(token):
            self.position += len(token)
            return True
        return False

    def expect(self, token: str) -> None:
        """Read `token`, which has to come next."""
        if not self.accept(token):
            raise self.wrong(f'"{token}"')

    def finish(self) -> None:
        """Require that nothing is left."""
        if not self.at_end:
            raise self.wrong("end of input")

    def wrong(self, expected: str) -> ParseError:
        """Return the error for what stands at the cursor."""
        return bad_parameter(self.parameter, self.text, self.position, expected)

    def take_while(self, wanted: Callable[[str], bool]) -> str:
        """Read characters for as long as they are `wanted`."""
        start = self.position
        while self.position < len(self.text) and wanted(self.text[self.position]):
            self.position += 1
        return self.text[start : self.position]

    def quoted(self) -> str:
        """Read `"..."` in which a backslash makes the next character literal."""
        self.expect('"')
        read: list[str] = []
        while not self.at_end:
            char = self.text[self.position]
            self.position += 1
            if char == '"':
                return "".join(read)
            if char == "\\" and not self.at_end:
                char = self.text[self.position]
                self.position += 1
            read.append(char)
        raise self.wrong('"\\""')

    def name(self) -> str:
        """Read a column's name: quoted, or letters, digits, `_`, `$`, spaces and single dashes."""
        if self.peek('"'):
            name = self.quoted()
        else:
            start = self.position
            while not self.at_end:
                char = self.text[self.position]
                if not (char.isalnum() or char in "_$ " or (char == "-" and not self.peek("->"))):
                    break
                self.position += 1
            name = self.text[start : self.position].strip()
        if not name:
            raise self.wrong('field name (* or [a..z0..9_$]) or "\\""')
        return name

    def field(self) -> Field:
        """Read a column's name and the JSON path that may follow."""
        name = self.name()
        steps: list[JsonStep] = []
        while self.accept("->"):
            as_text = self.accept(">")
            steps.append(JsonStep(self._json_key(), as_text))
        return Field(name, tuple(steps))

    def _json_key(self) -> str | int:
        if self.peek('"'):
            return self.quoted()
        start = self.position
        while not self.at_end and self.text[self.position] not in "(:.,>)" and not self.peek("->"):
            self.position += 1
        key = self.text[start : self.position]
        if not key:
            raise self.wrong("JSON key or array index")
        digits = key.removeprefix("-")
        if digits.isascii() and digits.isdecimal() and len(digits) <= len(str(_INT4_MAX)):
            index = int(key)
            return index if abs(index) <= _INT4_MAX else key
        return key

    def refuse_embedding(self) -> None:
        """Say so when what stands here is PostgREST's syntax for a related table."""
        if self.peek("(") or self.peek("!"):
            raise not_supported("Resource embedding (select=relation(columns))")

    def name_list(self) -> tuple[str, ...]:
        """Read the whole text as names joined by commas."""
        names = [self.name()]
        while self.accept(","):
            names.append(self.name())
        self.finish()
        return tuple(names)
