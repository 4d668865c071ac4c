"""Filters: their syntax, and that comparing gives what PostgreSQL gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.phoenix import filters, matching
from embedded.phoenix.errors import BadSubscription
from embedded.phoenix.filters import Filter
from embedded.phoenix.matching import ColumnType

INT = ColumnType("int8", "bigint")
TEXT = ColumnType("text", "text")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("id=eq.2001", (Filter("id", "eq", ("2001",)),)),
        ('id=eq."2001"', (Filter("id", "eq", ("2001",)),)),
        ("details=eq.", (Filter("details", "eq", ("",)),)),
        ("id=not.eq.1", (Filter("id", "eq", ("1",), negated=True),)),
        ("d=not.is.null", (Filter("d", "is", ("null",), negated=True),)),
        ("id=gt.1,id=lt.3", (Filter("id", "gt", ("1",)), Filter("id", "lt", ("3",)))),
        ("id=in.(1,2)", (Filter("id", "in", ("1", "2")),)),
        ('d=in.("a,b",c)', (Filter("d", "in", ("a,b", "c")),)),
        (r'd=eq."a\"b,c"', (Filter("d", "eq", ('a"b,c',)),)),
        ("v=eq.1.5", (Filter("v", "eq", ("1.5",)),)),
        ("d=like.a%", (Filter("d", "like", ("a%",)),)),
        ("d=eq.x=y", (Filter("d", "eq", ("x=y",)),)),
    ],
)
def test_syntax(text, expected):
    assert filters.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id=foo.1", '["foo", "1"]'),
        ("garbage", '["garbage"]'),
        ("id=in.1,2", "`in` filter value must be wrapped by parentheses"),
        ("id=eq.1,", "filter must not contain empty segments (check for extra commas)"),
    ],
)
def test_syntax_errors_are_worded_as_measured(text, reason):
    with pytest.raises(BadSubscription) as caught:
        filters.parse(text)
    assert str(caught.value) == f"Error parsing `filter` params: {reason}"


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text):
    try:
        filters.parse(text)
    except BadSubscription as error:
        assert str(error).startswith("Error parsing `filter` params: ")  # noqa: PT017  # most texts are filters


@given(st.text(min_size=1))
def test_a_quoted_value_is_itself(value):
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert filters.parse(f'c=eq."{quoted}"') == (Filter("c", "eq", (value,)),)


def matches(text, column, value):
    (wanted,) = filters.parse(text)
    test = matching.compile_filter(wanted, column).test
    assert test is not None
    return test(value)


@pytest.mark.parametrize(
    ("text", "column", "matching_values", "others"),
    [
        ("c=eq.2", INT, ["2"], ["3", "22"]),
        ("c=neq.2", INT, ["3"], ["2"]),
        ("c=lt.10", INT, ["9", "-100"], ["10", "11"]),
        ("c=gte.10", INT, ["10", "100"], ["9"]),
        ("c=in.(1,3)", INT, ["1", "3"], ["2"]),
        ("c=not.in.(1,3)", INT, ["2"], ["1"]),
        ("c=eq.1.5", ColumnType("numeric", "numeric"), ["1.5", "1.5000"], ["1.51"]),
        ("c=gt.9", ColumnType("numeric", "numeric"), ["10", "NaN", "Infinity"], ["9", "-Infinity"]),
        ("c=eq.NaN", ColumnType("float8", "double precision"), ["NaN"], ["0"]),
        ("c=lt.1e3", ColumnType("float8", "double precision"), ["999.5", "-0"], ["1000", "NaN"]),
        ("c=eq.t", ColumnType("bool", "boolean"), ["t"], ["f"]),
        ("c=is.true", ColumnType("bool", "boolean"), ["t"], ["f"]),
        ("c=eq.a", TEXT, ["a"], ["A", "ab", "a "]),
        ("c=lt.b", TEXT, ["a", "Z"], ["b", "ba"]),
        ("c=like.a%", TEXT, ["a", "ab\nc"], ["ba", "A"]),
        (r"c=like.a\%_", TEXT, ["a%x"], ["abx", "a%"]),
        ("c=match.^a", TEXT, ["ab"], ["ba"]),
        ("c=match.b$", TEXT, ["ab"], ["ab\n", "ba"]),
        ("c=gt.2024-01-02", ColumnType("date", "date"), ["2024-01-03", "10000-01-01", "infinity"],
         ["2024-01-02", "-infinity", "2025-01-01 BC"]),
        ("c=lte.2024-05-06 05:08:09.5+00", ColumnType("timestamptz", "timestamp with time zone"),
         ["2024-05-06 05:08:09+00", "2024-05-06 05:08:09.5+00", "2024-05-06 05:08:09.45+00"],
         ["2024-05-06 05:08:09.51+00", "2024-05-06 05:08:10+00"]),
    ],
)  # fmt: skip
def test_comparisons(text, column, matching_values, others):
    for value in matching_values:
        assert matches(text, column, value) is True, value
    for value in others:
        assert matches(text, column, value) is False, value


@pytest.mark.parametrize("operator", ["eq", "neq", "lt", "gte", "like", "match"])
@pytest.mark.parametrize("prefix", ["", "not."])
def test_null_matches_nothing(operator, prefix):
    assert matches(f"c={prefix}{operator}.a", TEXT, None) is None


def test_null_is_distinct_and_is_null():
    assert matches("c=isdistinct.a", TEXT, None) is True
    assert matches("c=not.isdistinct.a", TEXT, None) is False
    assert matches("c=is.null", TEXT, None) is True
    assert matches("c=not.is.null", TEXT, None) is False
    assert matches("c=not.is.null", TEXT, "x") is True


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("c=eq.{}", ColumnType("jsonb", "jsonb")),
        ("c=eq.1 day", ColumnType("interval", "interval")),
        ("c=lt.b", ColumnType("text", "text", bytewise=False)),
        ("c=eq.a", ColumnType("text", "text", deterministic=False)),
        ("c=eq.a", ColumnType("bpchar", "character(5)")),
        ("c=lt.a", ColumnType("mood", "public.mood", enum=True)),
        ("c=ilike.a%", TEXT),
        ("c=match.(a|b)", TEXT),
        ("c=imatch.a", TEXT),
        ("c=eq.1", ColumnType("posint", "public.posint", plain=False)),
    ],
)
def test_what_is_not_exact_here_is_left_to_sql(text, column):
    (wanted,) = filters.parse(text)
    condition = matching.compile_filter(wanted, column)
    assert condition.test is None
    assert "u.v" in condition.sql


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_compare_as_numbers(value, literal):
    assert matches(f"c=lt.{literal}", INT, str(value)) is (value < literal)


@pytest.mark.parametrize(
    ("literal", "canonical"),
    [("1", True), ("-1", True), ("01", False), ("abc", False), ("9223372036854775808", False), ("+1", False)],
)
def test_canonical_integers(literal, canonical):
    assert matching.is_canonical(INT, literal) is canonical
