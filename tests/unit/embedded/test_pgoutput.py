"""The decoder over messages made by hand from PostgreSQL's documentation."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedded.errors import ProtocolError
from embedded.wal.messages import COPY_DATA, Frames, XLogData, parse_copy_data
from embedded.wal.model import UNCHANGED, Transaction
from embedded.wal.pgoutput import PART_BYTES, PART_CHANGES, Decoder, RelationMessage, complete
from embedded.wal.types import PgType

OID = 16400
COLUMNS = (("id", 20, 1), ("body", 25, 0), ("a", 16, 0))


def relation(identity="d", columns=COLUMNS, schema="public", oid=OID):
    parts = [b"R", struct.pack("!I", oid), schema.encode() + b"\0todos\0", identity.encode()]
    parts.append(struct.pack("!H", len(columns)))
    for name, type_oid, flag in columns:
        parts.append(bytes([flag]) + name.encode() + b"\0" + struct.pack("!Ii", type_oid, -1))
    return b"".join(parts)


def row(*values):
    parts = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack("!I", len(value.encode())) + value.encode())
    return b"".join(parts)


BEGIN = b"B" + struct.pack("!QqI", 100, 0, 7)
COMMIT = b"C" + struct.pack("!BQQq", 0, 100, 148, 1_500_000)
INSERT = b"I" + struct.pack("!I", OID) + b"N"
UPDATE = b"U" + struct.pack("!I", OID)
DELETE = b"D" + struct.pack("!I", OID)


def decode(*changes, identity="d"):
    decoder = Decoder()
    assert decoder.decode(BEGIN) is None
    assert not decoder.idle
    assert isinstance(decoder.decode(relation(identity)), RelationMessage)
    for change in changes:
        assert decoder.decode(change) is None
    transaction = decoder.decode(COMMIT)
    assert isinstance(transaction, Transaction)
    assert decoder.idle
    return transaction


def only_change(*changes, identity="d"):
    (change,) = decode(*changes, identity=identity).changes
    return change


def test_insert_has_a_record_in_jsonb_order():
    transaction = decode(INSERT + row("1", 'x"', "t"))
    (change,) = transaction.changes
    assert transaction.commit_lsn == 148
    assert transaction.commit_timestamp.isoformat() == "2000-01-01T00:00:01.500000+00:00"
    assert (change.type, change.new, change.old, change.old_record) == (
        "INSERT",
        ("1", 'x"', "t"),
        None,
        None,
    )
    assert change.record == b'{"a": true, "id": 1, "body": "x\\""}'
    assert [column.type_name for column in change.relation.columns] == ["int8", "text", "bool"]
    assert [column.name for column in change.relation.key] == ["id"]


def test_update_without_old_row_takes_the_key_from_the_new_one():
    change = only_change(UPDATE + b"N" + row("1", "x", "f"))
    assert change.old_record == b'{"id": 1}'
    assert change.old == ("1", None, None)


def test_update_of_the_key_has_the_old_key():
    change = only_change(UPDATE + b"K" + row("1", None, None) + b"N" + row("2", "x", "f"))
    assert (change.old_record, change.new) == (b'{"id": 1}', ("2", "x", "f"))


def test_unchanged_large_value_is_missing_under_default_identity():
    change = only_change(UPDATE + b"N" + row("1", UNCHANGED, "f"))
    assert change.record == b'{"a": false, "id": 1}'
    assert change.new == ("1", UNCHANGED, "f")


def test_unchanged_large_value_comes_from_the_old_row_under_full():
    change = only_change(UPDATE + b"O" + row("1", "big", "t") + b"N" + row("1", UNCHANGED, "f"), identity="f")
    assert change.record == b'{"a": false, "id": 1, "body": "big"}'
    assert change.old_record == b'{"a": true, "id": 1, "body": "big"}'
    assert change.new == ("1", "big", "f")


def test_delete_has_the_key_or_under_full_all():
    assert only_change(DELETE + b"K" + row("1", None, None)).old_record == b'{"id": 1}'
    change = only_change(DELETE + b"O" + row("1", None, "t"), identity="f")
    assert change.old_record == b'{"a": true, "id": 1, "body": null}'
    assert (change.record, change.new) == (None, None)


def test_truncate_names_each_table():
    change = only_change(b"T" + struct.pack("!IBI", 1, 0, OID))
    assert (change.type, change.relation.table, change.record, change.old_record) == (
        "TRUNCATE",
        "todos",
        None,
        None,
    )


def test_an_altered_table_is_described_again():
    decoder = Decoder()
    for message in (BEGIN, relation(), INSERT + row("1", "x", "f"), relation(columns=COLUMNS[:2])):
        decoder.decode(message)
    decoder.decode(INSERT + row("2", "y"))
    transaction = decoder.decode(COMMIT)
    assert isinstance(transaction, Transaction)
    assert [change.record for change in transaction.changes] == [
        b'{"a": false, "id": 1, "body": "x"}',
        b'{"id": 2, "body": "y"}',
    ]


def test_a_completed_relation_is_used():
    decoder = Decoder()
    decoder.decode(BEGIN)
    described = decoder.decode(relation("f", (("id", 20, 1), ("mood", 90001, 1))))
    assert isinstance(described, RelationMessage)
    decoder.define(complete(described, {90001: PgType(90001, "mood")}, ["id"]))
    decoder.decode(INSERT + row("1", "sad"))
    transaction = decoder.decode(COMMIT)
    assert isinstance(transaction, Transaction)
    columns = transaction.changes[0].relation.columns
    assert [(column.type_name, column.is_key, column.is_identity) for column in columns] == [
        ("int8", True, True),
        ("mood", False, True),
    ]


def test_origins_types_and_logical_messages_are_passed_over():
    assert decode(b"O" + bytes(9), b"Y" + bytes(9), b"M" + bytes(20)).changes == ()


def test_the_catalog_schema_has_its_name():
    described = Decoder().decode(relation(schema=""))
    assert isinstance(described, RelationMessage)
    assert complete(described, {}, None).schema == "pg_catalog"


@pytest.mark.parametrize(
    "messages",
    [
        [b""],
        [b"?"],
        [COMMIT],
        [BEGIN, BEGIN],
        [BEGIN, INSERT + row("1", "x", "f")],
        [relation(), INSERT + row("1", "x", "f")],
        [BEGIN, relation(), INSERT + row("1", "x")],
        [BEGIN, relation(), INSERT + row("1", "x", "f")[:-1]],
        [BEGIN, relation(), INSERT + row("1", "x", "f") + b"!"],
        [BEGIN, relation(), DELETE + b"N" + row("1", "x", "f")],
        [BEGIN, relation(), UPDATE + b"K" + row("1", None, None)],
        [BEGIN, relation("x")],
        [BEGIN, relation()[:-3]],
        [BEGIN, relation(), b"I" + struct.pack("!I", OID) + b"N\x00\x03b"],
    ],
)
def test_what_breaks_the_protocol_is_refused(messages):
    decoder = Decoder()
    for message in messages[:-1]:
        decoder.decode(message)
    with pytest.raises(ProtocolError):
        decoder.decode(messages[-1])


def large(rows, decoder=None):
    """Decode a transaction of so many rows and return the parts it comes in."""
    decoder = Decoder() if decoder is None else decoder
    messages = [BEGIN, relation(), *(INSERT + row(str(number), "x", "t") for number in range(rows)), COMMIT]
    return [event for event in map(decoder.decode, messages) if isinstance(event, Transaction)]


def ids(parts):
    return [int(change.new[0]) for each in parts for change in each.changes]


def test_a_large_transaction_comes_in_parts():
    parts = large(2 * PART_CHANGES + 1)
    assert [len(each.changes) for each in parts] == [PART_CHANGES, PART_CHANGES, 1]
    assert [each.last for each in parts] == [False, False, True]
    assert [each.before for each in parts] == [0, PART_CHANGES, 2 * PART_CHANGES]
    assert [each.commit_lsn for each in parts] == [100, 100, 148]
    assert ids(parts) == list(range(2 * PART_CHANGES + 1))


def test_a_last_part_may_be_empty():
    first, last = large(PART_CHANGES)
    assert (first.last, last.last) == (False, True)
    assert (last.changes, last.before) == ((), PART_CHANGES)


def test_large_rows_make_parts_of_few():
    body = "x" * (PART_BYTES // 2)
    decoder = Decoder()
    decoder.decode(BEGIN)
    decoder.decode(relation())
    assert decoder.decode(INSERT + row("1", body, "t")) is None
    part = decoder.decode(INSERT + row("2", body, "t"))
    assert isinstance(part, Transaction)
    assert len(part.changes) == 2
    assert PART_BYTES < part.size < PART_BYTES + 100


@given(st.integers(0, 2 * PART_CHANGES + 5))
@settings(max_examples=20, deadline=None)
def test_what_came_before_the_connection_broke_is_left_out(given_before):
    rows = 2 * PART_CHANGES + 5
    parts = large(rows, Decoder(delivered=90, begun=100, begun_changes=given_before))
    assert ids(parts) == list(range(given_before, rows))
    assert parts[0].before == given_before
    assert parts[-1].last
    assert parts[-1].before + len(parts[-1].changes) == rows


def test_another_transaction_is_not_shortened():
    assert ids(large(3, Decoder(begun=99, begun_changes=2))) == [0, 1, 2]
    decoder = Decoder(begun=100, begun_changes=2)
    assert ids(large(3, decoder)) == [2]


def test_a_transaction_right_behind_the_delivered_one_is_not_left_out():
    assert ids(large(1, Decoder(delivered=100))) == [0]
    (left,) = large(2 * PART_CHANGES, Decoder(delivered=101))
    assert (left.changes, left.last) == ((), True)


@given(
    st.lists(
        st.sampled_from([BEGIN, COMMIT, relation(), INSERT + row("1", "x", "f")]) | st.binary(max_size=40)
    )
)
def test_garbage_raises_only_protocol_errors(messages):
    decoder = Decoder()
    try:
        for message in messages:
            decoder.decode(message)
    except ProtocolError:
        pass


@given(st.lists(st.tuples(st.integers(), st.none() | st.text(st.characters(exclude_categories=["Cs"])))))
def test_rows_arrive_as_they_were_sent(rows):
    transaction = decode(*(INSERT + row(str(number), body, None) for number, body in rows))
    assert [change.new for change in transaction.changes] == [
        (str(number), body, None) for number, body in rows
    ]


def stream_of(rows):
    """Return the bytes that PostgreSQL sends for a transaction of these rows, with a keepalive in between."""
    messages = [BEGIN, relation(), *(INSERT + row(str(n), text, "t") for n, text in rows), COMMIT]
    copied = [b"w" + struct.pack("!QQq", 1, 148, 0) + message for message in messages]
    copied.insert(2, b"k" + struct.pack("!QqB", 148, 0, 0))
    return b"".join(struct.pack("!cI", b"d", len(data) + 4) + data for data in copied)


def transactions_in(chunks):
    frames, decoder, found = Frames(), Decoder(), []
    for chunk in chunks:
        for tag, payload in frames.feed(chunk):
            assert tag == COPY_DATA
            message = parse_copy_data(payload)
            event = decoder.decode(message.data) if isinstance(message, XLogData) else None
            if isinstance(event, Transaction):
                found.append(event)
    return found


@given(
    st.lists(
        st.tuples(st.integers(), st.none() | st.text(st.characters(exclude_categories=["Cs"]))), max_size=6
    ),
    st.data(),
)
def test_any_chunking_of_the_stream_gives_the_same_transactions(rows, data):
    stream = stream_of(rows) * 2
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = transactions_in([stream])
    assert [[change.new for change in each.changes] for each in whole] == [
        [(str(n), text, "t") for n, text in rows]
    ] * 2
    for cut in (chunks, [bytes([byte]) for byte in stream]):
        found = transactions_in(cut)
        assert [told(each) for each in found] == [told(each) for each in whole]


def told(transaction):
    changes = [(change.type, change.record, change.old_record, change.new) for change in transaction.changes]
    return transaction.commit_lsn, transaction.commit_timestamp, changes
