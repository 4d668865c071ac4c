"""The duplicator, with any lengths and any chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.websocket_frames import Duplicator

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
TEXT, PONG, PART = 0x81, 0x8A, 0x01


def frame(first: int, body: bytes) -> bytes:
    if len(body) < 126:
        return bytes((first, len(body))) + body
    if len(body) < 1 << 16:
        return bytes((first, 126)) + len(body).to_bytes(2) + body
    return bytes((first, 127)) + len(body).to_bytes(8) + body


def passed(data: bytes, chunk: int, *, twice: bool = True) -> bytes:
    duplicator = Duplicator()
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    return b"".join(duplicator.receive(each, twice=twice) for each in [*chunks, b""])


frames = st.lists(
    st.builds(
        frame, st.sampled_from([TEXT, PONG, PART]), st.sampled_from([0, 1, 125, 126, 300, 70_000]).map(bytes)
    ),
    max_size=6,
)


@given(frames, st.sampled_from([1, 7, 16_384, 1 << 20]))
def test_whole_data_messages_pass_twice_and_all_else_once(sent: list[bytes], chunk: int) -> None:
    expected = b"".join(each * 2 if each[0] == TEXT else each for each in sent)
    assert passed(HEAD + b"".join(sent), chunk) == HEAD + expected


@given(frames, st.sampled_from([1, 7, 16_384]))
def test_nothing_changes_unless_asked(sent: list[bytes], chunk: int) -> None:
    assert passed(HEAD + b"".join(sent), chunk, twice=False) == HEAD + b"".join(sent)


@given(st.binary(max_size=100), st.integers(1, 20))
def test_what_is_no_websocket_passes_unchanged(data: bytes, chunk: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + data
    assert passed(answer, chunk) == answer
    assert passed(data, chunk) == data


def test_a_message_that_never_ends_is_passed_as_far_as_it_came() -> None:
    assert (
        passed(HEAD + frame(TEXT, b"whole") + b"\x81\x05ab", 3)
        == HEAD + frame(TEXT, b"whole") * 2 + b"\x81\x05ab"
    )
