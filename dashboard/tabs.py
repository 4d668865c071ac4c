"""Open tabs, from outside of them: what Streamlit has no public way for, so that it is in one place.

A fragment is drawn again by its browser's word or by its own, not by that of another thread. Streamlit does the last for
itself when a script's file changes; this does the same for a fragment, and only while nothing of the tab is drawn or
waits to be: a wish of whoever looks is never overtaken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from streamlit import runtime
from streamlit.runtime.scriptrunner import RerunData, get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from dashboard.redrawing import Place, Said


def here() -> Place | None:
    """Return the fragment that is being drawn by this thread; None outside of one, and without a browser."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or not runtime.exists():
        return None
    fragment = ThreadState.get().fragment_id
    return Place(context.session_id, fragment) if fragment else None


async def redraw(wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Said]:
    """Draw fragments, session by session; return what became of it for each. Called from any loop."""
    loop = runtime.get_instance()._get_async_objs().eventloop  # noqa: SLF001 - see above
    asked = asyncio.run_coroutine_threadsafe(_redraw(wanted), loop)
    return await asyncio.wrap_future(asked)


async def _redraw(wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Said]:
    """Do it, in Streamlit's loop: nothing that a browser says comes in between."""
    return {session: _begin(session, fragments) for session, fragments in wanted.items()}


def _begin(session_id: str, fragments: Sequence[str]) -> Said:
    known = runtime.get_instance()._session_mgr.get_active_session_info(session_id)  # noqa: SLF001
    if known is None:
        return Said.GONE
    session = known.session
    if session._scriptrunner is not None:  # noqa: SLF001
        return Said.BUSY
    there = [each for each in fragments if session.has_fragment(each)]
    if not there:
        return (
            Said.GONE
        )  # with the page that they were on; a run of no fragment would be one of the whole page
    now = session._client_state  # noqa: SLF001 - as the last run left it
    session._create_scriptrunner(  # noqa: SLF001
        RerunData(
            query_string=now.query_string,
            page_script_hash=now.page_script_hash,
            page_name=now.page_name,
            fragment_id_queue=there,
            is_auto_rerun=True,
            context_info=now.context_info if now.HasField("context_info") else None,
        )
    )
    return Said.BEGUN
