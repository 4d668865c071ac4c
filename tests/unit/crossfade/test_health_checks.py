"""What `status` makes of what the parts say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.errors import AdapterError
from adapters.flag_file import FlagFile
from crossfade.checks import Unwell, check_channels, check_flags, collected, refusal
from crossfade.errors import CrossfadeError, UsageError, first_of
from crossfade.flag_summary import summarize
from crossfade.packaged import default_flags
from monitoring.flags.editing import edit
from monitoring.flags.model import ClientId, Flags

URL = "https://abc.supabase.co"
GOOD = edit(default_flags().read_text(), "live.percent", "40")


def report(**more: dict[str, Any]) -> dict[str, Any]:
    paths = {
        name: {"enabled": True, "connected": True, **more.get(name, {})} for name in ("supabase", "legacy")
    }
    return {
        "paths": paths,
        "streams": {"web-1/system": {"events": 5}},
        "spool": {"last_error": None, **more.get("spool", {})},
    }


def test_a_collector_that_delivers_everything_is_well() -> None:
    counts = {"tombstones": 0, "fenced_events": 0, "housekeeping_error": None}
    assert collected(report(supabase=counts, legacy={"unsendable_events": 0})) == "5 events of 1 streams"


@pytest.mark.parametrize(
    ("path", "counts", "words"),
    [
        ("supabase", {"tombstones": 3}, "3 events could not be stored in the database"),
        ("supabase", {"fenced_events": 2}, "2 events were given up"),
        ("legacy", {"unsendable_events": 1}, "1 events are larger"),
        ("supabase", {"housekeeping_error": "disk full"}, "not kept tidy: disk full"),
        ("spool", {"held_back": {"detail": "path legacy holds the spool back"}}, "holds the spool back"),
        ("legacy", {"connected": False}, "not connected to legacy"),
    ],
)
def test_whatever_is_not_delivered_is_unwell_with_its_number(
    path: str, counts: dict[str, Any], words: str
) -> None:
    with pytest.raises(Unwell, match=words):
        collected(report(**{path: counts}))


@pytest.mark.parametrize(
    ("status", "code", "signed_in", "words"),
    [
        (
            401,
            "42501",
            False,
            "SUPABASE_KEY alone may not read (HTTP 401, 42501); set CROSSFADE_ACCESS_TOKEN",
        ),
        (403, "42501", True, "the user of CROSSFADE_ACCESS_TOKEN may not read (HTTP 403, 42501)"),
        (401, "PGRST301", False, "refuses the key (HTTP 401, PGRST301); correct SUPABASE_KEY"),
        (401, "PGRST301", True, "correct SUPABASE_KEY or CROSSFADE_ACCESS_TOKEN"),
        (401, "PGRST303", True, "CROSSFADE_ACCESS_TOKEN has expired"),
        (404, "PGRST205", False, "are supabase/migrations applied"),
        (503, "", False, "answers HTTP 503"),
    ],
)
def test_a_bad_key_and_a_missing_right_are_told_apart(
    *, status: int, code: str, signed_in: bool, words: str
) -> None:
    answer = httpx.Response(status, json={"code": code, "message": "no"} if code else ["gateway"])
    assert words in refusal(URL, answer, signed_in=signed_in)


def test_an_answer_that_is_no_json_is_told_by_its_status() -> None:
    assert "refuses the key (HTTP 401)" in refusal(URL, httpx.Response(401, text="<html>"), signed_in=False)


def test_a_broken_flag_file_is_unwell_and_what_is_in_force_is_said(tmp_path: Path) -> None:
    path, kept = tmp_path / "flags.yaml", tmp_path / "good.yaml"
    path.write_text(GOOD)
    assert check_flags(FlagFile(path, kept=kept)).detail == "good: 40 % of clients on Supabase"
    path.write_text(GOOD.replace("kill:", "kil:"))
    check = check_flags(FlagFile(path, kept=kept))
    assert not check.ok
    assert "line " in check.detail
    assert check.detail.endswith("the last good flags stay in force: 40 % of clients on Supabase")
    assert "legacy server" in check_flags(FlagFile(path)).detail


def test_flags_are_summarized_in_one_clause() -> None:
    assert summarize(Flags(kill=True, weight=100_000)) == "kill: every client is on the legacy server"
    assert summarize(Flags(weight=12_500)) == "12.5 % of clients on Supabase"
    listed = Flags(allow=frozenset({ClientId("a")}), deny=frozenset({ClientId("b"), ClientId("c")}))
    assert summarize(listed) == "0 % of clients on Supabase, 1 allowed, 2 denied"


def test_the_first_of_our_errors_is_found_in_a_group_of_tasks_errors() -> None:
    ours = (AdapterError, CrossfadeError)
    error = UsageError("no")
    nested = ExceptionGroup("tasks", [ExceptionGroup("inner", [error]), CrossfadeError("second")])
    assert first_of(nested, ours) is error
    assert first_of(error, ours) is error


def test_a_group_with_anything_else_keeps_its_traceback() -> None:
    ours = (CrossfadeError,)
    assert first_of(ExceptionGroup("tasks", [CrossfadeError("a"), ZeroDivisionError()]), ours) is None
    assert first_of(ZeroDivisionError(), ours) is None


def test_a_file_of_checks_with_a_mistake_is_unwell_though_the_last_good_ones_go_on() -> None:
    with pytest.raises(Unwell, match=r"line 4: a\.evry"):
        collected({**report(), "checks": {"problem": "checks.yaml: line 4: a.evry: there is no such key"}})


def channels(*names: str, problem: str | None = None) -> dict[str, Any]:
    return {"file": "/somewhere/alerts.yaml", "problem": problem, "channels": list(names)}


def test_that_alerts_reach_nobody_is_a_note_that_says_what_to_do() -> None:
    found = check_channels(channels())
    assert (found.ok, found.note) == (False, True)
    assert found.detail == "none is set: alerts can reach nobody"
    assert "the channels of /somewhere/alerts.yaml" in found.advice
    assert "crossfade alerts notify-test" in found.advice


def test_channels_are_named_and_rules_that_cannot_be_read_are_a_failure() -> None:
    assert check_channels(channels("ops", "night")).detail == "alerts are told to ops, night"
    assert check_channels(channels("ops")).ok
    bad = check_channels(channels("ops", problem="line 6: above is no number"))
    assert (bad.ok, bad.note, bad.advice) == (False, False, "correct the file")
    assert bad.detail.startswith("line 6")
