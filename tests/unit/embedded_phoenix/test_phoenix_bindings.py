"""Bindings: what is echoed, which ids, which tables, which errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.phoenix import bindings
from embedded.phoenix.errors import JoinRefused


def test_echo_has_the_id_first_and_sorted_keys():
    asked = {"event": "*", "schema": "public", "table": "todos", "filter": "id=eq.1", "extra": "kept?"}
    (echo,) = bindings.parse([asked]).echo
    assert list(echo) == ["id", "event", "extra", "filter", "schema", "table"]
    assert {k: v for k, v in echo.items() if k != "id"} == asked


@given(st.dictionaries(st.text(), st.text() | st.none() | st.integers(-(2**53), 2**53)))
def test_ids_are_stable_and_never_zero(entry):
    first, second = bindings.binding_id(entry), bindings.binding_id(dict(reversed(entry.items())))
    assert first == second
    assert 0 < first < 2**27


def test_nothing_asked():
    for entries in (None, [], {}, [None]):
        assert bindings.parse(entries).echo == []


def only(entry):
    requested = bindings.parse([entry])
    assert requested.error is None
    return requested.bindings[0]


@pytest.mark.parametrize(
    ("entry", "covered", "others"),
    [
        ({"table": "todos"}, [("public", "todos")], [("other", "todos"), ("public", "todos2")]),
        ({"schema": "public"}, [("public", "x")], [("other", "x")]),
        ({"schema": "*"}, [("other", "x")], []),
        ({"schema": "*", "table": "todos"}, [("other", "todos")], [("other", "x")]),
        ({"schema": "public", "table": "*"}, [("public", "x")], [("other", "x")]),
        ({"schema": "public", "table": "todo%"}, [("public", "todos_full")], [("public", "TODOS")]),
        ({"schema": "public", "table": "Weird Table"}, [("public", "Weird Table")], []),
    ],
)
def test_tables_meant(entry, covered, others):
    binding = only(entry)
    assert all(binding.covers(*name) for name in covered)
    assert not any(binding.covers(*name) for name in others)


@pytest.mark.parametrize(
    ("event", "expected"),
    [("INSERT", "INSERT"), ("insert", "INSERT"), ("*", None), ("bogus", None), (None, None)],
)
def test_events(event, expected):
    assert only({"event": event, "schema": "public", "table": "t"}).event == expected


NO_PARAMS = "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"event": "*"}, NO_PARAMS + '%{"event" => "*"}'),
        ({}, NO_PARAMS + "%{}"),
        (
            {"event": "*", "schema": "public", "table": "todos", "filter": None},
            NO_PARAMS + '%{"event" => "*", "filter" => nil, "schema" => "public", "table" => "todos"}',
        ),
        (
            {"event": "*", "schema": "public", "filter": "id=eq.1"},
            NO_PARAMS + '%{"event" => "*", "filter" => "id=eq.1", "schema" => "public"}',
        ),
        (
            {"event": "*", "schema": 1, "table": 2},
            NO_PARAMS + '%{"event" => "*", "schema" => 1, "table" => 2}',
        ),
        (
            {"schema": "public", "table": "todos", "select": "id"},
            'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]',
        ),
        (
            {"schema": "public", "table": "*", "select": ["id"]},
            (
                "Column selection is not supported for wildcard subscriptions. "
                "Provide an explicit schema and table name."
            ),
        ),
    ],
)
def test_errors_are_worded_as_measured(entry, error):
    requested = bindings.parse([{"schema": "public", "table": "todos"}, entry])
    assert requested.error == error
    assert requested.bindings == ()
    assert len(requested.echo) == 2


def test_an_entry_that_is_no_object_refuses_the_join():
    with pytest.raises(JoinRefused) as caught:
        bindings.parse(["string"])
    assert str(caught.value) == 'UnknownErrorOnChannel: expected a map, got:\n\n    "string"\n'


def test_described_as_error_texts_have_it():
    binding = only({"event": "*", "schema": "public", "table": "todos", "filter": "id=eq.abc"})
    assert binding.described() == (
        '[event: *, schema: public, table: todos, filters: [{"id", "eq", "abc", false}], select: nil]'
    )
