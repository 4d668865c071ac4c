"""Signing in as a person of the project, by e-mail and password or with a token; it stays with the browser's session."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from dashboard.actions import Actions, Operator
from dashboard.session import Session
from dashboard.views.words import escape
from monitoring.control import ControlError

_KEY = "operator"
_HOW = "`crossfade token NAME --role operator` on the machine that runs Crossfade prints a token."
_WHO = (
    "A user of the project's Supabase whose `app_metadata.crossfade_role` is viewer, operator or admin; "
    "`crossfade users add` makes one."
)


def operator() -> Session | None:
    """Return who has signed in; also after their session has ended, until they sign out or another one does in."""
    return st.session_state.get(_KEY)


def tend(actions: Actions, now: datetime) -> tuple[str, bool, bool] | None:
    """Renew the session of whoever has signed in, if it is time; return what the switches of a page depend on."""
    session = operator()
    if session is None:
        return None
    session.tend(actions.renew, now)
    return session.role, session.writes, session.ended(now)


def draw_session_note(now: datetime) -> None:
    """Draw what should be known about the session, if anything."""
    session = operator()
    if session is not None and (said := session.note(now)):
        st.warning(escape(said), icon=":material/lock_clock:")


def draw_sign_in(actions: Actions) -> Operator | None:
    """Draw who has signed in, or the way to; return who has."""
    known = operator()
    if known is None:
        _draw_forms(actions, "Sign in to act")
        return None
    ended = known.ended(datetime.now(UTC))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(
            f"{known.name} · {'session ended' if ended else 'operator' if known.writes else 'viewer'}",
            icon=":material/lock_clock:" if ended else ":material/person:",
            color="orange" if ended else "green" if known.writes else "gray",
        )
        if ended:
            _draw_forms(actions, "Sign in again")
        st.button("Sign out", key="sign-out", type="tertiary", on_click=_sign_out)
    return known


def _draw_forms(actions: Actions, label: str) -> None:
    with st.popover(label, icon=":material/login:"):
        person, bearer = st.tabs(["E-mail", "Token"])
        with person, st.form("sign-in-person", border=False):
            email = st.text_input("E-mail", key="email", autocomplete="username")
            password = st.text_input(
                "Password", type="password", key="password", autocomplete="current-password"
            )
            st.caption(_WHO)
            if st.form_submit_button("Sign in", type="primary"):
                _signed_in(lambda: actions.sign_in_with_password(email.strip(), password))
        with bearer, st.form("sign-in-token", border=False):
            token = st.text_input("Access token", type="password", key="token")
            st.caption(_HOW)
            if st.form_submit_button("Use the token", type="primary"):
                _signed_in(lambda: actions.sign_in(token))


def _signed_in(sign_in: Callable[[], Operator]) -> None:
    try:
        with st.spinner("Signing in ..."):
            st.session_state[_KEY] = Session(sign_in(), datetime.now(UTC))
    except ControlError as problem:
        st.error(str(problem), icon=":material/block:")
    else:
        st.rerun()


def _sign_out() -> None:
    st.session_state.pop(_KEY, None)
