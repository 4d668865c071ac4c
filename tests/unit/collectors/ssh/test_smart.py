from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.ssh.errors import Unreadable
from collectors.ssh.smart import parse_drive, parse_smart, remembered
from tests.fakes.leaves import leaves

FIXTURES = Path(__file__).parents[3] / "fixtures" / "ssh"


def drive(name: str) -> dict[str, Any]:
    (found,) = parse_smart((FIXTURES / f"smartctl-{name}.json").read_text())
    return found


def test_an_ata_drive_is_told_in_full() -> None:
    told = drive("ata")
    assert (told["device"], told["serial"], told["protocol"]) == ("/dev/sda", "WD-WCC7K0000000", "ATA")
    assert told["capacity_bytes"] == 4000787030016
    assert told["passed"] is True
    assert told["temperature_celsius"] == 32
    attributes = {each["id"]: each for each in told["attributes"]}
    assert attributes[5] == {
        "id": 5, "name": "Reallocated_Sector_Ct", "value": 200, "worst": 200, "threshold": 140, "raw": 3,
        "raw_text": "3", "prefailure": True, "failed": None,
    }  # fmt: skip
    assert attributes[194]["raw_text"] == "32 (Min/Max 14/43)"
    assert told["errors_logged"] == 7
    assert told["self_test"] == {
        "kind": "Short offline", "status": "Completed without error", "passed": True, "power_on_hours": 29400,
    }  # fmt: skip


def test_a_status_that_is_not_0_is_no_lack_of_data() -> None:
    told = drive("ata")
    assert told["exit_status"] == 64
    assert told["problem"] is None
    assert told["warnings"] == ["the drive's error log has entries"]


def test_a_failing_nvme_drive_says_so() -> None:
    told = drive("nvme")
    assert told["passed"] is False
    assert told["nvme"]["critical_warning"] == 4
    assert told["nvme"]["percentage_used"] == 104
    assert told["nvme"]["media_errors"] == 5
    assert told["nvme"]["data_units_read"] is None, "beyond what a bigint holds"
    assert told["warnings"] == ["the drive says that it is failing"]
    assert told["attributes"] is None


def test_a_sas_drive_counts_grown_defects() -> None:
    told = drive("sas")
    assert told["model"] == "SEAGATE ST4000NM0023"
    assert told["scsi"] == {
        "grown_defects": 17, "uncorrected_read": 0, "uncorrected_write": 2, "uncorrected_verify": None,
    }  # fmt: skip


def test_a_sleeping_drive_is_left_asleep_and_keeps_its_last_values() -> None:
    asleep = drive("standby")
    assert asleep["asleep"] is True
    assert asleep["problem"] is None
    assert asleep["temperature_celsius"] is None
    kept = remembered(asleep, drive("ata"))
    assert (kept["asleep"], kept["temperature_celsius"], kept["exit_status"]) == (True, 32, 2)
    assert remembered(asleep, None)["temperature_celsius"] is None
    assert remembered(drive("ata"), asleep)["asleep"] is False


def test_a_drive_that_may_not_be_read_says_why_and_does_not_sleep() -> None:
    told = drive("refused")
    assert told["asleep"] is False
    assert "Permission denied" in told["problem"]
    assert "sudo -n" in told["problem"]


def test_several_answers_in_one_output_are_told_apart_whatever_stands_between_them() -> None:
    texts = [(FIXTURES / f"smartctl-{name}.json").read_text() for name in ("ata", "nvme", "sas")]
    pretty = json.dumps(json.loads(texts[1]), indent=2)
    found = parse_smart(f"warning {{\n{texts[0]}\n\n{pretty}\nnoise }}{{\n{texts[2]}")
    assert [each["device"] for each in found] == ["/dev/sda", "/dev/nvme0", "/dev/sdb"]


def test_no_drives_are_no_error_and_something_else_is() -> None:
    assert parse_smart("\n") == []
    with pytest.raises(Unreadable):
        parse_smart("sh: smartctl: command not found")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "device", "model_name", "serial_number", "user_capacity", "smart_status", "temperature", "power_on_time",
    "ata_smart_attributes", "nvme_smart_health_information_log", "scsi_error_counter_log", "ata_smart_self_test_log",
    "nvme_self_test_log", "rotation_rate", "power_cycle_count",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), json_values), json_values)
def test_no_document_breaks_it_and_what_comes_out_can_be_stored(
    document: dict[str, Any], smartctl: Any
) -> None:
    told = parse_drive({**document, "smartctl": {"argv": ["smartctl", "/dev/sda"], "exit_status": smartctl}})
    assert told is not None
    assert not any("\0" in each for each in leaves(told) if isinstance(each, str))


@given(st.binary(max_size=300))
def test_no_bytes_break_it(output: bytes) -> None:
    text = output.decode("utf-8", "replace")
    for cut in (text, (FIXTURES / "smartctl-ata.json").read_text()[: len(output) * 10] + text):
        with contextlib.suppress(Unreadable):
            parse_smart(cut)
