"""The agent's file, read strictly: what is wrong is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.agent.offers import InvalidOffers, read_offers

GOOD = """\
commands:
  disk:
    description: how full a disk is
    run: [df, -h, "{path}"]
    timeout: 1m30s
    parameters:
      path: {pattern: "/[a-z/]*", max_characters: 100, default: /}
  uptime: {run: [uptime]}
end: true
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "agent.yaml"
    path.write_text(text)
    return path


def test_a_good_file_is_what_the_agent_offers(tmp_path: Path) -> None:
    offers = read_offers(written(tmp_path, GOOD))
    assert list(offers) == ["disk", "uptime"]
    assert offers["disk"].timeout_seconds == 90
    assert offers["disk"].arguments({}) == ["df", "-h", "/"]
    assert offers["uptime"].arguments({}) == ["uptime"]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (GOOD.replace("end: true\n", ""), 1, "end: Field required"),
        (GOOD.replace("timeout: 1m30s", "timeout: soon"), 5, "is not a duration"),
        (GOOD.replace("run: [df", 'run: ["{path}"'), 2, "the program itself must be fixed"),
        (GOOD.replace('"{path}"', '"{paht}"'), 2, "paht is no parameter of it"),
        (GOOD.replace(', "{path}"', ""), 2, "path stands nowhere in run"),
        (GOOD.replace("default: /", "default: -x"), 7, "must not begin with a dash"),
        (GOOD.replace('pattern: "/[a-z/]*", ', ""), 7, "say what it takes"),
        (GOOD.replace('"/[a-z/]*"', '"["'), 7, "pattern: "),
        (GOOD.replace("uptime: {", "Up Time: {"), 1, "must be small letters"),
        (GOOD.replace("run: [uptime]", "run: uptime"), 8, "valid list"),
        (GOOD.replace("run: [uptime]", "run: [uptime], shell: true"), 8, "Extra inputs are not permitted"),
        (GOOD.replace("  uptime:", "  disk:"), 8, "disk is there twice"),
        (GOOD + "]", 10, "not YAML"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(InvalidOffers) as raised:
        read_offers(written(tmp_path, text))
    assert reason in str(raised.value)
    assert raised.value.line == line


def test_no_file_and_no_text_are_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidOffers, match="there is no such file"):
        read_offers(tmp_path / "agent.yaml")
    (tmp_path / "agent.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidOffers, match="not UTF-8"):
        read_offers(tmp_path / "agent.yaml")
    with pytest.raises(InvalidOffers, match="cannot be read"):
        read_offers(tmp_path)
