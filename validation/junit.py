"""A report as JUnit XML, for continuous integration: a test case a class of findings, and one for the verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from validation.observation import FINDINGS, MEANINGS


def to_junit(report: Mapping[str, Any]) -> str:
    """Return the XML of a report as `report.to_json` makes it."""
    cases = [_case(str(outcome), MEANINGS[outcome], report) for outcome in FINDINGS]
    verdict, reasons = report["verdict"], "; ".join(report["reasons"])
    cases.append(_clients_case(report.get("clients") or {}))
    cases.append(_states_case(report.get("states") or {}))
    failures = sum("<failure" in case for case in cases)
    errors = 0
    body = ""
    if verdict == "ERROR":
        errors, body = 1, f"<error message={quoteattr(_clean(reasons))}/>"
    elif verdict in {"INCONCLUSIVE", "NO_DATA"}:
        # No green without a PASS: most servers show skipped as success.
        failures, body = (
            failures + 1,
            f"<failure type={quoteattr(verdict)} message={quoteattr(_clean(reasons))}/>",
        )
    cases.append(f'    <testcase classname="crossfade.validate" name="verdict">{body}</testcase>')
    return "\n".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?>',
            "<testsuites>",
            (
                f'  <testsuite name="crossfade validate" tests="{len(cases)}" failures="{failures}" errors="{errors}" '
                f'skipped="0" timestamp={quoteattr(report["started_at"])}>'
            ),
            *cases,
            f"    <system-out>{escape(_clean(f'{verdict}: {reasons}'))}</system-out>",
            "  </testsuite>",
            "</testsuites>",
            "",
        )
    )


def _case(name: str, meaning: str, report: Mapping[str, Any]) -> str:
    count = report["counts"].get(name, 0)
    body = ""
    if count:
        told = "\n".join(
            f"{each['stream']} {each['epoch']}:{each['seq']} {'; '.join(each['details'])}"
            for each in report["samples"].get(name, [])
        )
        message = quoteattr(f"{count} events {meaning}")
        body = f"<failure type={quoteattr(name)} message={message}>{escape(_clean(told))}</failure>"
    return f'    <testcase classname="crossfade.validate" name={quoteattr(name)}>{body}</testcase>'


def _clients_case(seen: Mapping[str, Any]) -> str:
    body = ""
    if seen.get("differ"):
        told = "\n".join(
            f"{each['client']} {each['stream']} {each['fault']}: {each['words']}" for each in seen["samples"]
        )
        message = quoteattr(
            f"{seen['differ']} of {seen['blocks']} blocks of clients differ from what was published"
        )
        body = f'<failure type="clients" message={message}>{escape(_clean(told))}</failure>'
    return f'    <testcase classname="crossfade.validate" name="what clients saw">{body}</testcase>'


def _states_case(states: Mapping[str, Any]) -> str:
    body = ""
    if states.get("differ"):
        told = "\n".join(
            f"{each['stream']} {each['kind']} {each['class']}: {'; '.join(each['details'])}"
            for each in states["samples"]
        )
        message = quoteattr(f"{states['differ']} of {states['entries']} entries of the states differ")
        body = f'<failure type="states" message={message}>{escape(_clean(told))}</failure>'
    return f'    <testcase classname="crossfade.validate" name="state against state">{body}</testcase>'


def _clean(text: str) -> str:
    """Return text without what XML 1.0 cannot hold."""
    return "".join(each if each in "\t\n" or "\x20" <= each <= "\ud7ff" or "\ue000" <= each <= "\ufffd" or each > "\uffff" else "\ufffd" for each in text)  # fmt: skip
