"""The documentation says what is there, and what it tells people to type works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade.settings import Settings
from tests.e2e.installation import Installation

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

ELSEWHERE = {
    "make run": "tests/e2e/test_make_run.py",
    "make test": "what runs this",
    "source .venv/bin/activate": "these tests run from the environment",
}
"""Commands that are not run here, and where they are."""


def commands() -> Iterator[str]:
    """Return every line that a page tells people to type, once."""
    seen = set()
    for page in PAGES:
        for block in SHELL.findall(page.read_text()):
            for line in block.splitlines():
                if line.strip() and line not in seen:
                    seen.add(line)
                    yield line


@pytest.mark.e2e
@pytest.mark.xdist_group("e2e")
def test_every_command_in_the_documentation_works(installation: Installation) -> None:
    lasting = {}
    for line in commands():
        if line in ELSEWHERE:
            continue
        program, *words = shlex.split(line)
        assert program == "crossfade", f"{line!r} is neither run here nor listed in ELSEWHERE"
        if "--for" in words:  # it runs while the reader goes on in another terminal
            lasting[line] = installation.begin(*words)
            continue
        done = installation.run(*words)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    for line, process in lasting.items():
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{line}\n{out}{err}"


def test_nothing_is_excused_that_no_page_has() -> None:
    assert set(ELSEWHERE) <= set(commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    hosted = {"supabase_url": "SUPABASE_URL", "supabase_key": "SUPABASE_KEY", "database_url": "DATABASE_URL"}
    for name in Settings.model_fields:
        variable = hosted.get(name, f"CROSSFADE_{name.upper()}")
        assert f"| `{variable}` |" in page, f"docs/settings.md does not name {variable}"


def test_the_command_reference_is_what_the_commands_say() -> None:
    made = subprocess.run(
        [sys.executable, "docs/make_cli_reference.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs/cli.md").read_text() == made.stdout, "run `make fmt`"


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
