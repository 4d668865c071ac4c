from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from collectors.ssh import commands
from collectors.ssh.commands import Command, read, shells
from collectors.ssh.script import Section, build, split
from tests.fakes.missing_parts import missing

MARK = "@cf-0123456789abcdef"


def ran(script: str, *shell: str) -> tuple[dict[str, Section], bool]:
    done = subprocess.run(
        shell or ("sh", "-s"), input=script, capture_output=True, text=True, timeout=60, check=False
    )
    return split(done.stdout, done.stderr, MARK)


def busybox(tmp_path: Path) -> tuple[str, Path]:
    """Return BusyBox, and a directory in which its tools, and no others, are."""
    program = shutil.which("busybox")
    if program is None:
        missing("BusyBox", "apt-get install busybox")
    for applet in subprocess.run(
        [program, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        (tmp_path / applet).symlink_to(program)
    return program, tmp_path


def test_each_command_has_its_own_output_complaint_and_status() -> None:
    found, complete = ran(
        build({"one": "echo 1; echo oh >&2", "two": "exit 3", "three": "printf 'no newline'"}, MARK)
    )
    assert complete
    assert found["one"] == Section(0, "1\n", "oh\n")
    assert found["two"] == Section(3, "", "")
    assert found["three"].output == "no newline"


def test_commands_cannot_read_the_script_or_change_each_other() -> None:
    found, complete = ran(build({"greedy": "cat; x=1; set -- a b", "next": 'echo "$x$#"'}, MARK))
    assert complete
    assert found["greedy"].output == ""
    assert found["next"].output == "0\n"


def test_output_that_looks_like_another_mark_stays_output() -> None:
    found, _ = ran(build({"name": "printf '\\n@cf-other<cpu\\n1\\n@cf-other>0\\n'"}, MARK))
    assert set(found) == {"name"}


def test_what_is_cut_short_is_left_out() -> None:
    assert split(f"\n{MARK}<a\n1\n\n{MARK}>0\n\n{MARK}<b\n2", "", MARK) == ({"a": Section(0, "1\n")}, False)


def test_a_command_that_hangs_is_ended_on_the_device() -> None:
    found, complete = ran(build({"slow": "limit 1 sleep 60", "after": "echo here"}, MARK))
    assert complete
    assert found["after"].output == "here\n"
    answer = read(Command("slow", "", str, seconds=1), found["slow"])
    assert answer.reason == "no answer within 1 s on the device"


def test_the_whole_script_runs_on_gnu() -> None:
    found, complete = ran(build(shells((*commands.SYSTEM, commands.SMART)), MARK))
    assert complete
    answers = {each.name: read(each, found.get(each.name)) for each in commands.SYSTEM}
    without_pressure = {name: answer.reason for name, answer in answers.items() if name != "pressure"}
    assert not any(without_pressure.values()), without_pressure


def test_the_whole_script_runs_on_busybox(tmp_path: Path) -> None:
    program, tools = busybox(tmp_path)
    script = build(shells((*commands.SYSTEM, commands.SMART)), MARK)
    lines = [
        f"PATH={tools}; export PATH" if line.startswith("PATH=") else line for line in script.split("\n")
    ]
    found, complete = ran("\n".join(lines), program, "ash", "-s")
    assert complete
    answers = {each.name: read(each, found.get(each.name)) for each in (*commands.SYSTEM, commands.SMART)}
    for name in ("uptime", "cpu", "load", "memory", "mounts", "disks", "disk-io", "networks", "identity"):
        assert answers[name].ok, f"{name}: {answers[name].reason}"
    assert answers["smart"].missing
    assert answers["smart"].reason == "smartctl is not installed there (package smartmontools)"


def test_busybox_before_1_30_has_its_own_timeout(tmp_path: Path) -> None:
    """Its form was ``timeout -t SECONDS``: a stand-in that takes no other shows that ours is found."""
    program, tools = busybox(tmp_path)
    (tools / "timeout").unlink()
    (tools / "timeout").write_text(
        f'#!{program} ash\n[ "$1" = -t ] || exit 1\nshift\nexec {program} timeout "$@"\n'
    )
    (tools / "timeout").chmod(0o755)
    script = build({"slow": "limit 1 sleep 60", "after": "echo here"}, MARK)
    lines = [
        f"PATH={tools}; export PATH" if line.startswith("PATH=") else line for line in script.split("\n")
    ]
    found, _ = ran("\n".join(lines), program, "ash", "-s")
    assert found["slow"].status in {124, 143}
    assert found["after"].output == "here\n"


def test_a_missing_tool_is_a_capability_and_not_an_error() -> None:
    answer = read(Command("x", "", str, lacks="no x here"), Section(127, ""))
    assert (answer.ok, answer.missing, answer.reason) == (False, True, "no x here")


def test_a_failing_command_says_what_it_said() -> None:
    answer = read(Command("x", "", str), Section(1, "", "x: permission denied\nmore"))
    assert (answer.missing, answer.reason) == (False, "x: permission denied")


def smartctl(asked: str) -> dict[str, Any]:
    """Return what the real smartctl says of the one drive that is asked for."""
    if shutil.which("smartctl") is None:
        missing("smartctl", "apt-get install smartmontools")
    found, _ = ran(build({"smart": asked}, MARK))
    answer = read(commands.SMART, found["smart"])
    assert answer.ok, answer.reason
    (drive,) = answer.value
    return drive


def test_the_real_smartctl_lists_what_drives_there_are_here() -> None:
    if shutil.which("smartctl") is None:
        missing("smartctl", "apt-get install smartmontools")
    found, complete = ran(build({"smart": commands.SMART.shell}, MARK))
    assert complete
    answer = read(commands.SMART, found["smart"])
    assert answer.ok, answer.reason
    assert all(drive["exit_status"] is not None for drive in answer.value)


def test_the_real_smartctl_says_of_what_does_not_answer_that_it_sleeps() -> None:
    drive = smartctl("smartctl --json=c -n standby -a -d sat /dev/null; exit 0")
    assert (drive["asleep"], drive["problem"], drive["temperature_celsius"]) == (True, None, None)


def test_the_real_smartctl_says_what_is_no_nvme() -> None:
    drive = smartctl("smartctl --json=c -n standby -a -d nvme /dev/null; exit 0")
    assert drive["asleep"] is False
    assert "Inappropriate ioctl" in drive["problem"]


def test_the_real_smartctl_is_refused_without_root() -> None:
    block = next(
        (f"/dev/{path.name}" for path in Path("/sys/block").iterdir() if (Path("/dev") / path.name).exists()),
        None,
    )
    if os.getuid() != 0 or block is None or shutil.which("setpriv") is None:
        missing("root and a block device", "run the tests as root to see a refusal")
    drive = smartctl(
        f"setpriv --reuid 65534 --clear-groups smartctl --json=c -n standby -a -d sat {block}; exit 0"
    )
    assert drive["device"] == block
    assert "Permission denied" in drive["problem"]
    assert "sudo -n" in drive["problem"]
