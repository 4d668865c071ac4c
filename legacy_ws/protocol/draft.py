"""A dialect drafted from a survey: a Python file that runs as it is, and that a person goes on from. Pure."""

from __future__ import annotations

from legacy_ws.protocol.survey import MessageType, Survey

_HEAD = '''"""A dialect drafted by ``crossfade legacy record`` from {messages} messages in {seconds:.0f} s. It is yours: see
docs/writing-a-dialect.md for what to check.
"""

from collections.abc import Iterable, Mapping{sequence}
from typing import Any

from legacy_ws.protocol.foreign import Memory, Observation, Said
from legacy_ws.protocol.json_dialect import addressable, from_text, from_unix
from {module} import {base}
from monitoring.events import stream_id
from monitoring.fingerprint import Likeness


class Drafted({base}):
    """Every type of message that was seen is an event, until you say otherwise."""

    name = "drafted"
{settings}

'''

_HELPERS = '''

def at(message: Mapping[str, Any], *path: str) -> Any:
    """Return what stands at a path of a message."""
    value: Any = message
    for name in path:
        value = value[name]
    return value


def time(value: Any) -> Any:
    """Return the time that a text, or a number of seconds or milliseconds since 1970, says."""
    if isinstance(value, str):
        return from_text(value)
    return from_unix(value / 1000 if value > 1e11 else value)
'''


def draft(survey: Survey) -> str:
    """Return the text of the file."""
    types = list(survey.types.values())
    # What came once, and first, to a client that had just connected is rarely news.
    greeting = types[0] if len(types) > 1 and types[0].count == 1 else None
    events = [each for each in types if each is not greeting]
    timed = bool(events) and all(each.role("time") for each in events)
    settings = [f"    protocol = {survey.socketio}"] if survey.socketio else []
    if not timed:
        settings.append("    # Of some events no time was found: all are recognised by what they say alone.")
        settings.append("    likeness = Likeness(resolution=None)")
    else:
        settings.append(
            "    likeness = Likeness()  # ignored=frozenset({'field.that.differs.between.connections'})"
        )
    head = _HEAD.format(
        messages=survey.messages,
        seconds=survey.seconds,
        sequence=", Sequence" if survey.socketio else "",
        module="legacy_ws.protocol.socketio" if survey.socketio else "legacy_ws.protocol.json_dialect",
        base="SocketIoDialect" if survey.socketio else "JsonDialect",
        settings="\n".join(settings),
    )
    if survey.socketio:
        body = [
            "    def on(self, event: str, arguments: Sequence[Any]) -> Iterable[Said]:",
            '        """Return what an event says."""',
            "        message = arguments[0] if arguments else {}",
            "        match event:",
        ]
    else:
        body = [
            "    def read(self, message: Mapping[str, Any]) -> Iterable[Said]:",
            '        """Return what a message says."""',
            f"        match message.get({survey.tag!r}, 'message'):"
            if survey.tag
            else "        match 'message':  # it names no type",
        ]
    for each in types:
        body += _greeting(each) if each is greeting else _case(each)
    if not types:
        body += ["            case _:", "                yield from ()"]
    text = head + "\n".join(body) + "\n" + _HELPERS
    return text if "datetime.now" not in text else text.replace(
        "from typing import Any\n", "from datetime import UTC, datetime\nfrom typing import Any\n", 1
    )  # fmt: skip


def _greeting(each: MessageType) -> list[str]:
    return [
        f"            # Came once, when we connected: what stands now, or what it remembers? {each.example[:60]}",
        f"            case {each.name!r}:",
        "                yield Memory()  # set greets = True, and fill in what it says",
    ]


def _case(each: MessageType) -> list[str]:
    device, kind, identity, time = (each.role(role) for role in ("device", "kind", "id", "time"))
    at = f"time({_at(time)})," if time else "datetime.now(UTC),  # it tells no time: when it came"
    named = f"addressable(str({_at(device)}))" if device else "'server'"
    lines = [
        f"            # {each.count} seen, {each.rate:.2g} a second. {each.example[:80]}".rstrip(),
        f"            case {each.name!r}:",
        "                yield Observation(",
        f"                    stream=stream_id({named}, addressable({each.name!r})),",
        f"                    kind={f'str({_at(kind)})' if kind else repr(each.name)},",
        f"                    occurred_at={at}",
        "                    payload=message,",
    ]
    if identity:
        lines.append(f"                    id=str({_at(identity)}),")
    return [*lines, "                )"]


def _at(path: str | None) -> str:
    return f"at(message, {', '.join(repr(part) for part in (path or '').split('.'))})"
