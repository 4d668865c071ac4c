"""Signing in as a person of the project, by e-mail and password or with a token; it stays with the browser's session."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard.actions import Actions, Operator
from monitoring.control import ControlError

_KEY = "operator"
_HOW = "`crossfade token NAME --role operator` on the machine that runs Crossfade prints a token."
_WHO = (
    "A user of the project's Supabase whose `app_metadata.crossfade_role` is viewer, operator or admin; "
    "`crossfade users add` makes one."
)


def operator() -> Operator | None:
    """Return who has signed in."""
    return st.session_state.get(_KEY)


def draw_sign_in(actions: Actions) -> Operator | None:
    """Draw who has signed in, or the way to; return who has."""
    known = operator()
    if known is not None:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(
                f"{known.name} · {'operator' if known.writes else 'viewer'}",
                icon=":material/person:",
                color="green" if known.writes else "gray",
            )
            st.button("Sign out", key="sign-out", type="tertiary", on_click=_sign_out)
        return known
    with st.popover("Sign in to act", icon=":material/login:"):
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
    return None


def _signed_in(sign_in: Callable[[], Operator]) -> None:
    try:
        with st.spinner("Signing in ..."):
            st.session_state[_KEY] = sign_in()
    except ControlError as problem:
        st.error(str(problem), icon=":material/block:")
    else:
        st.rerun()


def _sign_out() -> None:
    st.session_state.pop(_KEY, None)
