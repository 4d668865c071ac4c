"""Frames, read back by the library that clients have."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.streams import StreamReader

from legacy_ws.frames import WINDOW_BITS, deflated_frame, text_frame


def read(data, *, deflates):
    """Return the text of one frame and what is left."""
    reader = StreamReader()
    reader.feed_data(data)
    extensions = [PerMessageDeflate(True, True, WINDOW_BITS, WINDOW_BITS)] if deflates else None
    parsing = Frame.parse(reader.read_exact, mask=False, extensions=extensions)
    try:
        while True:
            next(parsing)
    except StopIteration as done:
        frame = done.value
    assert frame.fin
    assert reader.buffer == b""
    return bytes(frame.data).decode()


@given(st.text(max_size=2_000) | st.sampled_from("ab").map(lambda letter: letter * 70_000))
@example("x" * 125)
@example("x" * 126)
@example("\u20ac" * 30_000)
def test_a_frame_says_what_it_was_made_of(text):
    message = text.encode()
    assert read(text_frame(message), deflates=False) == text
    assert read(deflated_frame(message), deflates=True) == text
    assert len(deflated_frame(message)) <= len(text_frame(message))


def test_what_repeats_itself_gets_short():
    message = b'{"name": "project-service-1", "status": "running"}' * 80
    assert len(deflated_frame(message)) * 8 < len(text_frame(message))
