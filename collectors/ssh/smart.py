"""What ``smartctl --json`` says of drives, in full: pure.

The exit status is a mask of bits (smartctl(8), EXIT STATUS), and a status that is not 0 does not mean that there is no data.
``-n standby`` leaves a sleeping drive alone and answers with bit 1, as it does for a drive that cannot be opened: the
message tells them apart. NVMe counters of 128 bits beyond 2^63 are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from collectors.ssh.errors import Unreadable
from collectors.ssh.text import words

_BITS = (
    "smartctl did not understand its command line",
    "the drive could not be opened",
    "a command to the drive failed, or its answer had a wrong checksum",
    "the drive says that it is failing",
    "an attribute is below its threshold: failure is predicted",
    "an attribute was below its threshold in the past",
    "the drive's error log has entries",
    "the drive's self-test log has failures",
)
_NO_DATA = 0b111
"""Bits that say why something is missing; the others say what the drive says."""
_SLEEPING = ("STANDBY", "SLEEP", "LOW POWER", "LOW-POWER")
_REFUSED = ("Permission denied", "Operation not permitted", "Failed to open")

_MOST_DRIVES = 128
_MOST_ATTRIBUTES = 256
_LARGEST = 2**63 - 1


def parse_smart(text: str) -> list[dict[str, Any]]:
    """Read the answers of several calls, one JSON object each, and return what is told of each drive.

    A drive that sleeps, or that may not be read, is one with ``asleep`` or ``problem`` and without values. Raises
    Unreadable when there is text, and no answer of smartctl's in it.
    """
    drives: dict[str, dict[str, Any]] = {}
    for document in _documents(text):
        drive = parse_drive(document)
        if drive is not None:
            drives[drive["device"]] = drive
    if not drives and text.strip():
        raise Unreadable("smartctl answered with something else than JSON")
    return [drives[name] for name in list(drives)[:_MOST_DRIVES]]


def _documents(text: str) -> Iterator[Mapping[str, Any]]:
    """Find the JSON objects in a text, however they are laid out; what is between them is left out."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            # Cut short, or no JSON: go on at the next line that begins an object.
            at = text.find("\n{", at + 1)
            at += at >= 0
            continue
        if isinstance(value, Mapping) and isinstance(value.get("smartctl"), Mapping):
            yield value
        at = text.find("{", end)


def parse_drive(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what one answer tells of its drive; None for the answer to another question."""
    name = words(_at(document, "device", "name")) or _asked(document)
    if name is None:
        return None
    status = _count(_at(document, "smartctl", "exit_status"))
    messages = _messages(document)
    asleep = _asleep(status, messages)
    return {
        "device": name,
        "type": words(_at(document, "device", "type")),
        "protocol": words(_at(document, "device", "protocol")),
        "model": words(document.get("model_name") or document.get("scsi_model_name")),
        "family": words(document.get("model_family")),
        "serial": words(document.get("serial_number")),
        "firmware": words(document.get("firmware_version") or document.get("scsi_revision")),
        "capacity_bytes": _count(_at(document, "user_capacity", "bytes"))
        or _count(document.get("nvme_total_capacity")),
        "rotation_rpm": _count(document.get("rotation_rate")),
        "asleep": asleep,
        "passed": _flag(_at(document, "smart_status", "passed")),
        "temperature_celsius": _signed(_at(document, "temperature", "current")),
        "power_on_hours": _count(_at(document, "power_on_time", "hours")),
        "power_cycles": _count(document.get("power_cycle_count")),
        "attributes": _attributes(_at(document, "ata_smart_attributes", "table")),
        "nvme": _nvme(document.get("nvme_smart_health_information_log")),
        "scsi": _scsi(document),
        "self_test": _self_test(document),
        "errors_logged": _count(_at(document, "ata_smart_error_log", "summary", "count")),
        "warnings": _warnings(status),
        "problem": None if asleep else _problem(status, messages),
        "exit_status": status,
    }


def _at(document: Any, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def _signed(value: Any) -> int | None:
    """Read a temperature: some drives stand in a garage."""
    return value if type(value) is int and -273 <= value <= 1000 else None  # noqa: PLR2004 - degrees that can be


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _asked(document: Mapping[str, Any]) -> str | None:
    """Return which drive was asked for: the last argument."""
    last = words(next(iter(reversed(_list(_at(document, "smartctl", "argv")))), None))
    return last if last and last.startswith("/dev/") else None


def _messages(document: Mapping[str, Any]) -> list[str]:
    told = (words(_at(message, "string")) for message in _list(_at(document, "smartctl", "messages")))
    return [message for message in told if message][:20]


def _asleep(status: int | None, messages: Sequence[str]) -> bool:
    return bool(status and status & 0b10) and any(
        "mode" in message and any(word in message.upper() for word in _SLEEPING) for message in messages
    )


def _problem(status: int | None, messages: Sequence[str]) -> str | None:
    """Return why values are missing, in smartctl's own words where it has some; None when none are."""
    if status is None:
        return "smartctl did not say how it ended"
    if not status & _NO_DATA:
        return None
    refused = next((message for message in messages if any(why in message for why in _REFUSED)), None)
    if refused:
        return f"{refused}; smartctl needs root: let this user run it with sudo -n (docs/devices.md)"
    bits = [meaning for bit, meaning in enumerate(_BITS[:3]) if status & 1 << bit]
    return "; ".join(messages or bits)[:400]


def _warnings(status: int | None) -> list[str]:
    return [meaning for bit, meaning in enumerate(_BITS) if bit > 2 and (status or 0) & 1 << bit]  # noqa: PLR2004 - see _NO_DATA


def _attributes(table: Any) -> list[dict[str, Any]] | None:
    if not isinstance(table, list):
        return None
    return [
        {
            "id": _count(entry.get("id")),
            "name": words(entry.get("name")),
            "value": _count(entry.get("value")),
            "worst": _count(entry.get("worst")),
            "threshold": _count(entry.get("thresh")),
            "raw": _count(_at(entry, "raw", "value")),
            "raw_text": words(_at(entry, "raw", "string")),
            "prefailure": _flag(_at(entry, "flags", "prefailure")),
            "failed": words(entry.get("when_failed")),
        }
        for entry in table[:_MOST_ATTRIBUTES]
        if isinstance(entry, Mapping) and _count(entry.get("id")) is not None
    ]


def _nvme(log: Any) -> dict[str, int | None] | None:
    """Return the health log whole: its fields are those of the NVMe specification, counts and degrees."""
    if not isinstance(log, Mapping):
        return None
    return {
        key: _signed(value) if key == "temperature" else _count(value)
        for key, value in log.items()
        if isinstance(key, str) and key.isidentifier() and type(value) is int
    }


def _scsi(document: Mapping[str, Any]) -> dict[str, int | None] | None:
    """Return what SAS drives count: grown defects, and errors that could not be corrected."""
    if _at(document, "device", "protocol") != "SCSI":
        return None
    log = document.get("scsi_error_counter_log")
    return {
        "grown_defects": _count(document.get("scsi_grown_defect_list")),
        **{
            f"uncorrected_{way}": _count(_at(log, way, "total_uncorrected_errors"))
            for way in ("read", "write", "verify")
        },
    }


def _self_test(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the newest self-test that the drive remembers."""
    ata = next(iter(_list(_at(document, "ata_smart_self_test_log", "standard", "table"))), None)
    if isinstance(ata, Mapping):
        return {
            "kind": words(_at(ata, "type", "string")),
            "status": words(_at(ata, "status", "string")),
            "passed": _flag(_at(ata, "status", "passed")),
            "power_on_hours": _count(ata.get("lifetime_hours")),
        }
    nvme = next(iter(_list(_at(document, "nvme_self_test_log", "table"))), None)
    if isinstance(nvme, Mapping):
        result = _count(_at(nvme, "self_test_result", "value"))
        return {
            "kind": words(_at(nvme, "self_test_code", "string")),
            "status": words(_at(nvme, "self_test_result", "string")),
            "passed": None if result is None else result == 0,
            "power_on_hours": _count(nvme.get("power_on_hours")),
        }
    return None


def remembered(drive: Mapping[str, Any], last: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a sleeping drive with the values of its last reading; any other as it is."""
    if not drive["asleep"] or last is None:
        return dict(drive)
    return {**last, "asleep": True, "problem": None, "exit_status": drive["exit_status"]}
