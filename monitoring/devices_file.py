"""Text to devices, strictly: every mistake with its line, and nothing taken of a file that has one. Pure.

::

    version: 1
    devices:
      web-1:
        host: 10.0.0.5
        user: monitor
        key_file: ~/.ssh/id_ed25519

Values are read from the YAML nodes, as written: YAML itself would make ``host: 010`` the number 8.
"""

from __future__ import annotations

from collections.abc import Mapping

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from monitoring.devices import FIELDS, REQUIRED, Device, check_jumps, make
from monitoring.errors import InvalidDevice, InvalidDeviceFile
from monitoring.yaml_text import YamlError, composed

MAX_CHARACTERS = 1_000_000
_LITERAL_SECRETS = {"password": "password_from", "passphrase": "passphrase_from"}
_PROBLEMS_TOLD = 50

Problems = list[tuple[int, str]]


def load_devices(text: str, *, known: Mapping[str, Device] | None = None) -> dict[str, Device]:
    """Return the devices of a file by name; ``known`` are those that its jump hosts may be besides.

    Raises InvalidDeviceFile with every mistake that was found.
    """
    problems: Problems = []
    devices: dict[str, Device] = {}
    lines: dict[str, int] = {}
    for name, at, node in _entries(text, problems):
        if name in lines:
            problems.append((at, f"device {name} is there twice, first in line {lines[name]}"))
            continue
        lines[name] = at
        before = len(problems)
        values = _values(name, node, problems)
        if len(problems) > before:
            continue
        try:
            devices[name] = make({"name": name, **values})
        except InvalidDevice as error:
            problems.append((_line_of(node, error.field) or at, f"device {name}: {error.reason}"))
    if not problems:
        try:
            check_jumps({**(known or {}), **devices})
        except InvalidDevice as error:
            problems.append((0, error.reason))
    if problems:
        raise InvalidDeviceFile(sorted(problems)[:_PROBLEMS_TOLD])
    return devices


def _entries(text: str, problems: Problems) -> list[tuple[str, int, Node]]:
    """Return each device's name, line and node."""
    if len(text) > MAX_CHARACTERS:
        problems.append((0, f"the file has {len(text):,} characters, more than {MAX_CHARACTERS:,}"))
        return []
    root = _compose(text, problems)
    if root is None:
        return []
    top = {str(key.value): (_line(key), value) for key, value in _pairs(root, "the file", problems)}
    for key, (at, _) in top.items():
        if key not in {"version", "devices"}:
            problems.append((at, f"key {key} is not known; known are version, devices"))
    at, version = top.get("version", (1, None))
    if not isinstance(version, ScalarNode) or version.value != "1":
        problems.append((at, "it must say `version: 1`"))
    if "devices" not in top:
        problems.append((1, "it must have a key `devices`"))
        return []
    return [
        (str(key.value), _line(key), value) for key, value in _pairs(top["devices"][1], "devices", problems)
    ]


def _compose(text: str, problems: Problems) -> Node | None:
    try:
        root = composed(text)
    except YamlError as error:
        problems.append((error.line or 0, str(error)))
    else:
        if root is None:
            problems.append((0, "the file is empty"))
        return root
    return None


def _pairs(node: Node, what: str, problems: Problems) -> list[tuple[Node, Node]]:
    if not isinstance(node, MappingNode) or not _written_out(node):
        problems.append((_line(node), f"{what} must be keys and values, without anchors and tags"))
        return []
    found: list[tuple[Node, Node]] = []
    for key, value in node.value:
        if isinstance(key, ScalarNode) and _written_out(key):
            found.append((key, value))
        else:
            problems.append((_line(key), f"a key of {what} must be a word"))
    return found


def _values(name: str, node: Node, problems: Problems) -> dict[str, str]:
    """Return the fields of one device as text, each checked by itself."""
    found: dict[str, str] = {}
    for key, value in _pairs(node, f"device {name}", problems):
        field, at = str(key.value), _line(key)
        if field in _LITERAL_SECRETS:
            instead = _LITERAL_SECRETS[field]
            reason = f"secrets are not written here; use {instead}: env:NAME or file:PATH"
        elif field == "name" or field not in FIELDS:
            reason = f"key {field} is not known; known are {', '.join(field for field in FIELDS if field != 'name')}"
        elif field in found:
            reason = f"key {field} is there twice"
        elif not isinstance(value, ScalarNode) or not _written_out(value):
            reason = f"{field} must be one value, without anchors and tags"
        elif not value.value or (value.style is None and value.value in {"~", "null"}):
            reason = f"{field} has no value"
        else:
            found[field] = str(value.value)
            continue
        problems.append((at, f"device {name}: {reason}"))
    for required in REQUIRED:
        if required not in found and required != "name":
            problems.append((_line(node), f"device {name}: {required} is missing"))
    return found


def _written_out(node: Node) -> bool:
    return node.anchor is None and str(node.tag or "tag:yaml.org,2002:").startswith("tag:yaml.org,2002:")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _line_of(node: Node, field: str) -> int | None:
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next((_line(key) for key, _ in pairs if field and key.value == field), None)
