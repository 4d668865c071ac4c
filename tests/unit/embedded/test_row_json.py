"""The generated encoder says what the general one says, for whatever it takes on."""

import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from embedded.wal.model import UNCHANGED, Column
from embedded.wal.row_json import row_encoder
from embedded.wal.types import BUILTIN_TYPES
from embedded.wal.values import column_encoder, jsonb_key_order

TEXTS = {
    20: st.integers().map(str),
    25: st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    16: st.sampled_from("tf"),
    1700: st.sampled_from(["0", "-0", "0.10", "1.50", "-3", "NaN", "Infinity", "12345678901234567890.5"]),
    701: st.sampled_from(["1e+300", "1.5e-07", "-0", "12.25", "0.5", "Infinity", "9e+15"]),
    1184: st.sampled_from(["2024-05-06 05:08:09.5+00", "infinity", "0001-01-01 00:00:00+00 BC"]),
    3802: st.sampled_from(['{"a": 1}', "[1, 2]", '"x"']),
    1007: st.sampled_from(["{1,NULL,3}", "{}", "{{1,2},{3,4}}"]),
    17: st.sampled_from(["\\x", "\\xdeadbeef"]),
}


def rows():
    value = st.sampled_from(list(TEXTS)).flatmap(
        lambda oid: st.tuples(st.just(oid), st.none() | TEXTS[oid], st.text("ab%{}\"'\\é", max_size=3))
    )
    return st.lists(value, max_size=8, unique_by=lambda item: item[2])


def column(name, oid):
    return Column(name, oid, "t", False, False, BUILTIN_TYPES[oid])


def written(value):
    if value is None:
        return b"n"
    if value is UNCHANGED:
        return b"u"
    data = value.encode()
    return b"t" + struct.pack("!I", len(data)) + data


def expected(columns, values):
    members = []
    for index in sorted(range(len(columns)), key=lambda index: jsonb_key_order(columns[index].name)):
        name = column_encoder(BUILTIN_TYPES[25])(columns[index].name)
        value = values[index]
        members.append(f"{name}: {'null' if value is None else column_encoder(columns[index].type)(value)}")
    return ("{" + ", ".join(members) + "}").encode()


@given(rows())
def test_it_encodes_as_the_general_way_does(row):
    columns = [column(name, oid) for oid, _, name in row]
    values = [value for _, value, _ in row]
    message = b"header" + b"".join(map(written, values))
    assert row_encoder(columns)(message, 6) == expected(columns, values)


@given(rows(), st.binary(min_size=1, max_size=5))
def test_what_follows_the_row_is_left_to_the_general_way(row, more):
    encode = row_encoder([column(name, oid) for oid, _, name in row])
    message = b"".join(written(value) for _, value, _ in row)
    assert encode(message + more, 0) is None
    with contextlib.suppress(struct.error, IndexError, UnicodeDecodeError):
        assert not row or encode(message[:-1], 0) is None


def test_a_value_that_was_not_sent_is_left_to_the_general_way():
    encode = row_encoder([column("id", 20), column("body", 25)])
    assert encode(written("1") + written(UNCHANGED), 0) is None
