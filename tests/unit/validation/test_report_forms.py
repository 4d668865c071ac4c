"""JSON by its published schema, JUnit that parses, HTML that stands alone; each of a run with every class in it."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from monitoring.events import Position
from monitoring.seen import Seen
from monitoring.service import PUSHING, Backend
from monitoring.topics import GLOBAL
from tests.unit.validation.conftest import STREAM, make_event
from validation.clients import Report
from validation.faults import Fault, Injection, inject
from validation.html import to_html
from validation.junit import to_junit
from validation.report import Privacy, to_json, to_text
from validation.selftest import play, synthetic
from validation.session import Session
from validation.terms import Terms
from validation.verdict import Verdict

AT = datetime(2026, 11, 27, tzinfo=UTC)
ROOT = Path(__file__).parent.parent.parent.parent
SCHEMA = json.loads((ROOT / "docs/schemas/validation-report.json").read_text())


def run(fault: Fault | None):
    frames = synthetic(streams=4, seconds=120, skew_seconds=0.5)
    if fault is not None:
        injection = Injection(fault, (Backend.SUPABASE,), 0.05)
        frames = inject(frames, injection, grace_seconds=5, cap_seconds=15).frames
    session, _ = play(frames)
    return session.result(session.started_at)


def run_with_clients(*, lost: bool):
    """Return a run in which nothing is wrong but what a client saw, if that."""
    start = {STREAM: Position(1, 1)}
    session = Session(start, AT, terms=Terms(clients_seconds=1.0))
    seen = Seen([GLOBAL], start)
    for second in range(60):
        event = make_event(2 + second)
        session.publish(event, float(second))
        for side in PUSHING:
            session.deliver(side, event, second + 0.1, 0.1)
        if not (lost and second == 30):
            seen.took(event)
        seen.close_block()
        session.report([Report("p", "dash-<1>", "ops", seen.to_json())], second + 0.5)
        session.decide(second + 0.5)
    session.settle(61.0)
    return session.result(AT)


@pytest.fixture(scope="module", params=[None, *Fault, "clients", "a client's loss"], ids=str)
def result(request):
    if isinstance(request.param, str) and not isinstance(request.param, Fault):
        return run_with_clients(lost="loss" in request.param)
    return run(request.param)


@pytest.mark.parametrize("lost", [False, True])
def test_what_clients_saw_is_in_every_form_and_in_the_verdict(lost):
    result = run_with_clients(lost=lost)
    assert result.verdict is (Verdict.FAIL if lost else Verdict.PASS)
    text, page, suite = to_text(result), to_html(to_json(result)), to_junit(to_json(result))
    # What was lost is noticed with the next event: the two are one block.
    told = (
        "58 blocks compared (59 events): 57 agree, 1 differ"
        if lost
        else "59 blocks compared (59 events): 59 agree"
    )
    assert f"What clients saw: 1 clients, {told}" in text
    assert ("dash-<1> (ops)  web-1/system  missing: 1 of 2 did not come" in text) == lost
    assert ("dash-&lt;1&gt; web-1/system missing: 1 of 2 did not come" in suite) == lost
    assert ("missing: 1 of 2 did not come" in page) == lost
    assert "dash-<1>" not in page
    assert "<td>ops</td><td>any</td>" in page


def conforms(value, schema, path="$") -> list[str]:
    """Check what of JSON Schema the published one uses."""
    if "$ref" in schema:
        return conforms(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], path)
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted and not any(
        isinstance(value, kinds[kind]) and (kind == "boolean") == isinstance(value, bool) for kind in wanted
    ):
        return [f"{path}: {value!r} is no {wanted}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r} is none of {schema['enum']}"]
    found = []
    if isinstance(value, dict):
        found += [f"{path}: {name} is missing" for name in schema.get("required", []) if name not in value]
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, each in value.items():
            if name in known or isinstance(more, dict):
                found += conforms(each, known.get(name, more), f"{path}.{name}")
            elif not more:
                found.append(f"{path}: {name} is unknown")
    if isinstance(value, list) and "items" in schema:
        for number, each in enumerate(value):
            found += conforms(each, schema["items"], f"{path}[{number}]")
    return found


def test_the_json_is_as_the_schema_says(result):
    report = json.loads(json.dumps(to_json(result, about={"version": "1"})))
    assert conforms(report, SCHEMA) == []
    assert conforms({**report, "more": 1}, SCHEMA) == ["$: more is unknown"]
    assert conforms({**report, "verdict": "MAYBE"}, SCHEMA) != []


def test_the_junit_report_is_green_only_for_a_pass(result):
    report = to_json(result)
    suite = ET.fromstring(to_junit(report)).find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    assert (failed == 0) == (result.verdict is Verdict.PASS)
    assert failed == len(suite.findall("*/failure")) + len(suite.findall("*/error"))
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
    for verdict in (Verdict.INCONCLUSIVE, Verdict.NO_DATA, Verdict.ERROR):
        other = to_junit(to_json(replace(result, verdict=verdict, reasons=('\x00<&"',))))
        suite = ET.fromstring(other).find("testsuite")  # noqa: S314 - our own
        assert int(suite.attrib["failures"]) + int(suite.attrib["errors"]) > 0


class Balanced(HTMLParser):
    """Fails for tags that do not close."""

    VOID = frozenset({"meta", "br", "rect", "line", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID and tag not in {"li", "p"}:
            while self.open[-1] in {"li", "p"}:
                self.open.pop()
            assert self.open.pop() == tag
        elif tag in {"li", "p"}:
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_tells_the_verdict(result):
    page = to_html(to_json(result, about={"version": "<script>"}))
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r"(?:src|href)=|https?:|url\(|<script", page)
    assert f">{result.verdict}</span>" in page
    assert page.count("<svg") >= 3


def test_values_can_be_kept_out_of_every_form():
    result = run(Fault.MUTATE)
    plain = json.dumps(to_json(result))
    assert '"supabase payload.cpu_usage: expected' in plain
    for privacy in (Privacy(only_keys=True), Privacy(redacted=("cpu_usage", "payload.n", "up", "host"))):
        for text in (json.dumps(to_json(result, privacy)), to_text(result, privacy)):
            assert "expected" not in text
            assert "(redacted)" in text


def test_topics_and_time_are_in_the_text():
    text = to_text(run(Fault.DROP))
    assert "categories.system" in text
    assert "timeline " in text
    assert "synthetic-" in text
