"""Projects and exports through the installed command; docs/query.md's own commands are run by tests/test_docs.py."""

from __future__ import annotations

import json

import pytest

from tests.e2e.installation import Installation

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def test_a_project_is_kept_by_the_command_and_chooses_an_export(installation: Installation) -> None:
    def run(*words: str) -> str:
        done = installation.run(*words)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return str(done.stdout)

    run("projects", "create", "kept by hand", "--device", "e2e")
    again = installation.run("projects", "create", "Kept by hand")
    assert again.returncode == 1
    assert "there is a project Kept by hand already" in again.stderr
    run("projects", "add", "kept by hand", "app-7")
    (project,) = [
        each
        for each in json.loads(run("projects", "list", "--format", "json"))["projects"]
        if each["name"] == "kept by hand"
    ]
    assert project["members"] == ["app-7", "e2e"]
    lines = run("export", "events", "--project", "kept by hand", "--limit", "3").splitlines()
    assert [json.loads(line)["stream"].partition("/")[0] for line in lines] == ["e2e"] * 3
    run("projects", "archive", "kept by hand")
    none = installation.run("export", "events", "--project", "kept by hand")
    assert none.returncode == 2
    assert "there is no project 'kept by hand'" in none.stderr
    path = installation.directory / "cpu.csv"
    run("export", "series", "e2e/system", "cpu_usage", "--since", "10m", "--out", str(path))
    assert path.read_bytes().startswith(b"begin,mean,low,high,samples\r\n")
