"""Other machines, by the installed command: what docs/devices.md tells people to type, against a real sshd."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, events, wait_until
from tests.fakes.real_sshd import RealSshd

PAGE = Path(__file__).parents[2] / "docs" / "devices.md"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[RealSshd]:
    directory = tmp_path / "sshd"
    directory.mkdir()
    made = RealSshd(directory)
    yield made
    made.stop()


def typed(sshd: RealSshd) -> list[list[str]]:
    """Return the page's commands, with the machine and the key that are here in the place of the example's."""
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    here = {
        "monitor@web-1.example": f"{sshd.user}@127.0.0.1:{sshd.port}",
        "~/.ssh/crossfade": str(sshd.key_file),
    }
    return [[here.get(word, word) for word in shlex.split(line)] for line in lines]


@pytest.mark.e2e
@pytest.mark.xdist_group("e2e")
def test_the_five_minutes_of_the_documentation(installation: Installation, sshd: RealSshd) -> None:
    example = re.search(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert example is not None
    # none of its machines is here: nobody is to dial them
    here = re.sub(r"host: \S+", "host: 127.0.0.1", example[1]).replace(
        "jump: bastion", "jump: bastion\n    monitoring_enabled: false"
    )
    here = here.replace(
        "password_from: file:~/.secrets/nas",
        "password_from: file:~/.secrets/nas\n    monitoring_enabled: false",
    )
    (installation.directory / "devices.yaml").write_text(here)
    said: dict[str, str] = {}
    try:
        for words in typed(sshd):
            assert words[0] == "crossfade"
            if words[1:3] == ["devices", "add"]:
                refused = installation.run(*words[1:])
                assert refused.returncode == 1
                assert f"--accept-host-key {sshd.fingerprint}" in refused.stderr, "nobody is there to say yes"
                words += ["--accept-host-key", sshd.fingerprint]
            done = installation.run(*words[1:])
            assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
            said[" ".join(words[1:4])] = done.stdout
            if words[1:3] == ["devices", "list"]:
                assert re.search(rf"^ *web-1 .*127\.0\.0\.1:{sshd.port} .*stored", done.stdout, re.MULTILINE)
                wait_until("it is read", lambda: listed(installation)["web-1"]["status"] == "up")
        assert "web-1 is added and will be read" in said["devices add web-1"]
        assert re.search(r"^memory +[\d.]+ of [\d.]+ GiB used", said["devices add web-1"], re.MULTILINE)
        assert json.loads(said["devices test web-1"])["system"]["memory"]["total_bytes"] > 0
        kinds = {(event["stream"], event["kind"]) for event in events(said["watch --topic devices.web-1"])}
        assert ("web-1/system", "metric_collected") in kinds
        assert "added: bastion, web-2, nas" in said["devices import devices.yaml"]
        assert "web-1" not in listed(installation)
    finally:
        for name in ("web-1", "web-2", "nas", "bastion"):
            installation.run("devices", "remove", name)


def listed(installation: Installation) -> dict[str, dict]:
    return {
        each["name"]: each
        for each in json.loads(installation.run("devices", "list", "--format", "json").stdout)
    }


@pytest.mark.e2e
@pytest.mark.xdist_group("e2e")
@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["add", "x"], 2, "Missing argument"),
        (["add", "x", "nobody"], 2, "is not an address; write USER@HOST"),
        (["add", "x", "a@h"], 1, "there is no way in"),
        (["add", "x", "a@h", "--key-file", "k", "--password-from", "hunter2"], 1, "env:NAME or file:PATH"),
        (["add", "x", "a@127.0.0.1:1", "--key-file", "k"], 1, "k cannot be read"),
        (["add", "x", "a@h", "--agent", "--jump", "y"], 1, "its jump host 'y' is not a device"),
        (["edit", "x"], 2, "nothing to change was given"),
        (["edit", "x", "--disable"], 1, "there is no device 'x'"),
        (["test", "x"], 1, "there is no device 'x'"),
        (["remove", "x"], 1, "there is no device 'x'"),
        (["import", "nowhere.yaml"], 2, "nowhere.yaml cannot be read: No such file"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_changes_nothing(
    installation: Installation, words: list[str], status: int, says: str
) -> None:
    done = installation.run("devices", *words)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr
    assert listed(installation) == {}
