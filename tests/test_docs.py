"""The documentation says what is there, and what it tells people to type works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import AliasChoices

from crossfade.cli.app import app, register
from crossfade.settings import Settings
from tests.e2e.installation import Installation

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

DEVICES = "tests/e2e/test_devices.py, with a real sshd"
PROJECT = "tests/e2e/test_a_project_of_ones_own.py, with a database that is not ours"
CONTROL = "tests/e2e/test_control.py, with the page's own agent.yaml"
ELSEWHERE = {
    "crossfade agent --check": CONTROL,
    "crossfade agent --name web-1": CONTROL,
    "crossfade commands agents": CONTROL,
    "crossfade commands submit web-1 disk-usage path=/tmp --key first-look --wait": CONTROL,
    "crossfade commands list": CONTROL,
    "crossfade commands list --agent web-1 --state succeeded --format json": CONTROL,
    "crossfade alerts notify-test": "tests/e2e/test_alerts.py: with a channel",
    "crossfade devices add web-1 monitor@web-1.example --key-file ~/.ssh/crossfade": DEVICES,
    "crossfade watch --topic devices.web-1 --for 8s": DEVICES,
    'crossfade devices edit web-1 --system-interval 2s --description "the shop"': DEVICES,
    "crossfade devices test web-1": DEVICES,
    "crossfade devices test web-1 --format json": DEVICES,
    "crossfade devices remove web-1": DEVICES,
    "crossfade devices import devices.yaml --dry-run": DEVICES,
    "crossfade devices import devices.yaml": DEVICES,
    "crossfade init --dry-run": PROJECT,
    "crossfade init --yes --user viewer=ann@example.com": PROJECT,
    "crossfade uninit --dry-run": PROJECT,
    "crossfade uninit --yes": PROJECT,
    "make run": "tests/e2e/test_make_run.py",
    "make test": "what runs this",
    "source .venv/bin/activate": "these tests run from the environment",
    "crossfade validate report last --format html --out report.html": "tests/e2e/test_validation.py",
    "crossfade validate replay recording": "tests/e2e/test_validation.py: after the recording has ended",
    "crossfade validate selftest recording": "tests/e2e/test_validation.py: after the recording has ended",
    "crossfade validate compare old.jsonl new.jsonl --key order.id --stream host --time ts": "tests/e2e/test_validation.py",
}
"""Commands that are not run here, and where they are."""


def commands() -> Iterator[str]:
    """Return every line that a page tells people to type, in order; what runs for a while, once."""
    lasting = set()
    for page in PAGES:
        for block in SHELL.findall(page.read_text()):
            for line in filter(str.strip, block.splitlines()):
                if line not in lasting:
                    yield line
                if " --for " in line:
                    lasting.add(line)


@pytest.mark.e2e
@pytest.mark.xdist_group("e2e")
def test_every_command_in_the_documentation_works(installation: Installation) -> None:
    lasting = {}
    try:
        for line in commands():
            if line in ELSEWHERE:
                continue
            program, *words = shlex.split(line, comments=True)
            assert program == "crossfade", f"{line!r} is neither run here nor listed in ELSEWHERE"
            if "--for" in words:  # it runs while the reader goes on in another terminal
                lasting[line] = installation.begin(*words)
                continue
            done = installation.run(*words)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        for line, process in lasting.items():
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, f"{line}\n{out}{err}"
    finally:
        for process in lasting.values():
            if process.returncode is None:
                process.kill()
                process.communicate()


def programs(*, pushing: bool) -> list[str]:
    """Return the programs of all pages: those that push events, or those that print them."""
    blocks = {block for page in PAGES for block in PYTHON.findall(page.read_text())}
    return sorted(block for block in blocks if ("import push" in block) == pushing)


@pytest.mark.e2e
@pytest.mark.xdist_group("e2e")
@pytest.mark.parametrize("program", programs(pushing=True))
def test_every_program_in_the_documentation_that_pushes_ends_with_everything_kept(
    installation: Installation, program: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=installation.directory,
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.e2e
@pytest.mark.xdist_group("e2e")
@pytest.mark.parametrize("program", programs(pushing=False))
def test_every_program_in_the_documentation_prints_events(installation: Installation, program: str) -> None:
    running = subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        cwd=installation.directory,
        env=installation.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    try:
        # applications that another page had push events are devices, too
        found = list(islice((line for line in running.stdout if "e2e/system" in line), 2))
    finally:
        running.terminate()
        _, err = running.communicate(timeout=30)
    assert len(found) == 2, err


def test_nothing_is_excused_that_no_page_has() -> None:
    assert set(ELSEWHERE) <= set(commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variable = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"CROSSFADE_{name.upper()}"
        assert f"| `{variable}` |" in page, f"docs/settings.md does not name {variable}"


def test_the_command_reference_is_what_the_commands_say() -> None:
    made = subprocess.run(
        [sys.executable, "docs/make_cli_reference.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs/cli.md").read_text() == made.stdout, "run `make fmt`"


def test_the_command_reference_has_every_command() -> None:
    """It says so; `moves`, `token` and `legacy` were forgotten."""
    register([])
    page = (ROOT / "docs/cli.md").read_text()
    missing = [
        name for name in _commands(typer.main.get_command(app)) if f"\n## crossfade {name}\n" not in page
    ]
    assert not missing


def _commands(command: Any, name: str = "") -> Iterator[str]:
    if name:
        yield name
    for word, each in getattr(command, "commands", {}).items():
        if not each.hidden:
            yield from _commands(each, f"{name} {word}".strip())


def test_the_repository_names_no_machine_and_no_index() -> None:
    """Lock files hold names, versions and hashes alone; no file holds a path of a workplace."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    for name in filter(None, tracked):
        path = ROOT / name
        if path.suffix in {".png", ".jsonl"} or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        assert not re.search(r"(?<![\w.-])/(?:work|farm)/", text), f"{name} names a path of one machine"
        if name.endswith((".lock", "package-lock.json")):
            assert "://" not in text, f"{name} holds an address"
