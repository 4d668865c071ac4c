"""What is in deploy/ fits what is there: every metric is one that a service tells, every unit is one that systemd takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from crossfade.cli.app import register
from crossfade.settings import Settings
from tests.e2e.installation import Installation, wait_until
from tests.fakes.missing_parts import missing

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
NAME = re.compile(r"\b(?:crossfade|process)_[a-z0-9_]+")


def read(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def expressions() -> Iterator[tuple[str, str]]:
    """Return where each PromQL expression stands, and the expression."""
    for group in read(DEPLOY / "prometheus/rules.yml")["groups"]:
        for rule in group["rules"]:
            yield f"rule {rule.get('alert') or rule['record']}", rule["expr"]
    for panel in json.loads((DEPLOY / "grafana/crossfade.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]


def told(installation: Installation) -> set[str]:
    """Return the names of all samples of the query service and the legacy server."""
    state = json.loads((installation.directory / ".crossfade/run/state.json").read_text())
    names = set()
    for port in ("port_query", "port_legacy"):
        text = httpx.get(f"http://127.0.0.1:{state['addresses'][port]}/metrics", timeout=10).text
        for family in text_string_to_metric_families(text):
            names |= {family.name, *(sample.name for sample in family.samples)}
    return names


@pytest.mark.e2e
@pytest.mark.xdist_group("e2e")
def test_every_metric_of_the_dashboard_and_the_rules_is_told(installation: Installation) -> None:
    wanted = {name: where for where, text in expressions() for name in NAME.findall(text)}
    assert len(wanted) > 20
    wait_until("the collector has reported", lambda: "crossfade_collector_reads_total" in told(installation))
    there = told(installation)
    assert {name: where for name, where in wanted.items() if name not in there} == {}


def test_every_rule_has_what_somebody_who_is_woken_needs() -> None:
    rules = [rule for group in read(DEPLOY / "prometheus/rules.yml")["groups"] for rule in group["rules"]]
    for rule in rules:
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert set(rule["annotations"]) == {"summary", "description"}
    recorded = {rule["record"] for rule in rules if "record" in rule}
    used = {name for _, text in expressions() for name in re.findall(r"crossfade:[a-z0-9_:]+", text)}
    assert used <= recorded


def test_prometheus_takes_the_rules_and_each_alert_comes_when_it_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("promtool", "apt-get install prometheus")
    for words in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ):
        done = subprocess.run(
            [promtool, *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_comes_and_one_in_which_it_does_not() -> None:
    comes, stays_away = set(), set()
    for case in read(DEPLOY / "prometheus/rules_test.yml")["tests"]:
        for each in case["alert_rule_test"]:
            (comes if each["exp_alerts"] else stays_away).add(each["alertname"])
    alerts = {
        rule["alert"]
        for group in read(DEPLOY / "prometheus/rules.yml")["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert comes == stays_away == alerts


def test_parentheses_of_every_expression_match() -> None:
    for where, text in expressions():
        for pair in ("()", "[]", "{}"):
            assert text.count(pair[0]) == text.count(pair[1]), where


def test_the_compose_file_sets_only_what_there_is() -> None:
    compose = read(DEPLOY / "compose.yaml")
    known = {f"CROSSFADE_{name.upper()}" for name in Settings.model_fields} | {"CROSSFADE_WITH"}
    assert set(compose["services"]["crossfade"]["environment"]) <= known
    for service in compose["services"].values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "published to other machines"
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists(), source
    build = compose["services"]["crossfade"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").iterdir()), ids=lambda path: path.name)
def test_systemd_takes_every_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "apt-get install systemd")
    copy = tmp_path / unit.name.replace("@", "@query")
    copy.write_text(unit.read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if copy.name in line or str(copy) in line]
    assert complaints == []


def test_units_run_commands_that_there_are() -> None:
    for unit in (DEPLOY / "systemd").iterdir():
        command = re.search(r"^ExecStart=/usr/bin/env crossfade (\w+)", unit.read_text(), re.MULTILINE)
        assert command is not None
        register([command[1]])
