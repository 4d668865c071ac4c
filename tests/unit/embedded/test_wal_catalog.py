"""Types out of the catalog's rows."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.errors import ProtocolError
from embedded.wal.catalog import parse_types, primary_key_query, types_query
from embedded.wal.types import BUILTIN_TYPES


def test_types_made_of_types():
    rows = [
        ("101", "_pair", ",", "100", "0", None),
        ("100", "pair", ",", "0", "0", '[["a", 23], ["code", 102]]'),
        ("102", "code", ",", "0", "1042", None),
        ("103", "mood", ",", "0", "0", None),
    ]
    found = parse_types(rows)
    assert found[101].element == found[100]
    assert found[100].fields == (("a", BUILTIN_TYPES[23]), ("code", found[102]))
    assert found[102].base == BUILTIN_TYPES[1042]
    assert (found[103].shape, found[103].element, found[103].base, found[103].fields) == (
        "text",
        None,
        None,
        None,
    )


def test_a_type_dropped_meanwhile_passes_as_text():
    assert parse_types([("101", "_gone", ",", "100", "0", None)])[101].element.shape == "text"


def test_a_circle_ends():
    found = parse_types([("100", "a", ",", "101", "0", None), ("101", "b", ",", "100", "0", None)])
    assert found[100].element is not None


@given(st.lists(st.tuples(*[st.none() | st.text(max_size=5)] * 6)))
def test_garbage_raises_only_protocol_errors(rows):
    with contextlib.suppress(ProtocolError):
        parse_types(rows)


def test_queries_contain_numbers_only():
    assert "'{1,2}'" in types_query([1, 2])
    assert "= 7 " in primary_key_query(7)
    with pytest.raises(ValueError):
        types_query(["1); drop table x"])
