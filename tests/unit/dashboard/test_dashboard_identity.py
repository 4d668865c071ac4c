"""What the flags know a viewer by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from streamlit.web.server.starlette import starlette_app_utils
from streamlit.web.server.starlette.starlette_server_config import XSRF_COOKIE_NAME

from dashboard.identity import COOKIE, Viewer, browser_of, viewer_of
from dashboard.session import Session
from monitoring.flags.model import CLIENT_ID
from tests.fakes.operating import Person

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)


def session(name: str, ends: datetime | None = None) -> Session:
    return Session(Person(name, "t", "operator", writes=True, expires_at=ends), NOW)


def test_a_browser_is_the_same_viewer_each_time_and_another_one_is_not() -> None:
    viewer = viewer_of("ab12", None, NOW)
    assert viewer == viewer_of("ab12", None, NOW) != viewer_of("ab13", None, NOW)
    assert viewer.role == "viewer"
    assert viewer.client_id.startswith("dashboard-")
    assert CLIENT_ID.match(viewer.client_id)


def test_who_has_signed_in_is_the_same_from_every_browser() -> None:
    ann = session("ann@example.com")
    assert viewer_of("ab12", ann, NOW) == viewer_of("ab13", ann, NOW) == Viewer("ann@example.com", "operator")


def test_whose_session_has_ended_reads_as_those_who_have_not_signed_in() -> None:
    assert viewer_of("ab12", session("ann", NOW), NOW) == Viewer("ann", "viewer")
    assert viewer_of("ab12", session("ann", NOW + timedelta(seconds=1)), NOW) == Viewer("ann", "operator")


def test_a_name_that_flags_cannot_list_leaves_the_browser_s_id_and_has_its_role() -> None:
    known = viewer_of("ab12", None, NOW).client_id
    assert viewer_of("ab12", session("Ann of the shop"), NOW) == Viewer(known, "operator")


def test_the_cookie_is_streamlits_and_the_same_under_each_mask() -> None:
    token = bytes(range(16))
    made = [starlette_app_utils.generate_xsrf_token_string(token, 1) for _ in range(5)]
    assert len(set(made)) > 1
    assert {browser_of(each) for each in made} == {token.hex()}
    assert browser_of(f'"{made[0]}"') == token.hex()
    assert XSRF_COOKIE_NAME == COOKIE


@pytest.mark.parametrize("cookie", [None, "", "x", "1|00|00|1", "2|xy|00|1", "2||00|1", "2|00||1", "2|00|00"])
def test_another_form_is_nobody(cookie: str | None) -> None:
    assert browser_of(cookie) is None
