"""The parser of REST requests: what PostgREST's grammar says, and nothing but `ParseError` for the rest."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedded.rest.errors import ParseError
from embedded.rest.model import (
    Field,
    Filter,
    JsonStep,
    Logic,
    Media,
    OrderTerm,
    Preferences,
    Request,
    SelectColumn,
    Star,
    Window,
)
from embedded.rest.parse import parse_accept, parse_preferences, parse_request


def get(query: str = "", path: str = "/items", **headers: str) -> Request:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return parse_request("GET", path, query, names, b"", schemas=["public", "other"])


def post(body: bytes, query: str = "", path: str = "/items", method: str = "POST", **headers: str) -> Request:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return parse_request(method, path, query, names, body, schemas=["public", "other"])


def condition(query: str) -> Filter | Logic:
    (only,) = get(query).conditions
    return only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", (Star(),)),
        ("a,b", (SelectColumn(Field("a")), SelectColumn(Field("b")))),
        ("x:a::text", (SelectColumn(Field("a"), "x", "text"),)),
        ("a::double precision", (SelectColumn(Field("a"), None, "double precision"),)),
        ("d->e->>0", (SelectColumn(Field("d", (JsonStep("e", as_text=False), JsonStep(0, as_text=True)))),)),
        ("d->-1", (SelectColumn(Field("d", (JsonStep(-1, as_text=False),))),)),
        ("k:d->>some-key", (SelectColumn(Field("d", (JsonStep("some-key", as_text=True),)), "k"),)),
        ('"a b","c,d"', (SelectColumn(Field("a b")), SelectColumn(Field("c,d")))),
        (r'"a\"b"', (SelectColumn(Field('a"b')),)),
        ("with-dash", (SelectColumn(Field("with-dash")),)),
        ("", ()),
    ],
)
def test_select_lists(text: str, expected: tuple[object, ...]) -> None:
    assert get(f"select={quote(text)}").select == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a=eq.1", Filter(Field("a"), "eq", "1")),
        ("a=eq.", Filter(Field("a"), "eq", "")),
        ("a=not.eq.x.y", Filter(Field("a"), "eq", "x.y", negated=True)),
        ("a=is.NULL", Filter(Field("a"), "is", "null")),
        ("a=not.is.null", Filter(Field("a"), "is", "null", negated=True)),
        ("a=in.(1,2)", Filter(Field("a"), "in", values=("1", "2"))),
        ("a=in.()", Filter(Field("a"), "in", values=())),
        ('a=in.("x,y","say \\"hi\\"",z)', Filter(Field("a"), "in", values=("x,y", 'say "hi"', "z"))),
        ("a=like(any).{x*,y*}", Filter(Field("a"), "like", "{x*,y*}", quantifier="any")),
        ("a=fts(english).cat", Filter(Field("a"), "fts", "cat", language="english")),
        ("a=wfts.fat or cat", Filter(Field("a"), "wfts", "fat or cat")),
        ("a=cs.{1,2}", Filter(Field("a"), "cs", "{1,2}")),
        ("a=ov.[1,3)", Filter(Field("a"), "ov", "[1,3)")),
        ("d->>k=eq.v", Filter(Field("d", (JsonStep("k", as_text=True),)), "eq", "v")),
    ],
)
def test_filters(query: str, expected: Filter) -> None:
    key, _, value = query.partition("=")
    assert condition(urlencode({key: value})) == expected


def test_a_logic_tree_nests_and_negates() -> None:
    tree = condition('or=(a.eq.1,not.and(b.is.null,c.in.(1,"x,y")),d.not.like.*z*,e.cs.{1,2},f.eq."q)")')
    assert tree == Logic(
        "or",
        (
            Filter(Field("a"), "eq", "1"),
            Logic(
                "and",
                (Filter(Field("b"), "is", "null"), Filter(Field("c"), "in", values=("1", "x,y"))),
                negated=True,
            ),
            Filter(Field("d"), "like", "*z*", negated=True),
            Filter(Field("e"), "cs", "{1,2}"),
            Filter(Field("f"), "eq", "q)"),
        ),
    )


def test_a_negated_tree_keeps_its_operator() -> None:
    assert condition("not.or=(a.eq.1,b.eq.2)") == Logic(
        "or", (Filter(Field("a"), "eq", "1"), Filter(Field("b"), "eq", "2")), negated=True
    )


def test_order_terms() -> None:
    assert get("order=a,b.desc,c.asc.nullsfirst,d->x.nullslast").order == (
        OrderTerm(Field("a")),
        OrderTerm(Field("b"), "desc"),
        OrderTerm(Field("c"), "asc", "first"),
        OrderTerm(Field("d", (JsonStep("x", as_text=False),)), None, "last"),
    )


@pytest.mark.parametrize(
    ("query", "header", "expected"),
    [
        ("", None, Window()),
        ("limit=5", None, Window(0, 5)),
        ("offset=3&limit=0", None, Window(3, 0)),
        ("", "0-9", Window(0, 10)),
        ("", "items=5-", Window(5, None)),
        ("limit=3&offset=2", "3-10", Window(3, 2)),
        ("limit=2", "5-9", Window(5, 0)),
        ("", "nonsense", Window()),
    ],
)
def test_windows(query: str, header: str | None, expected: Window) -> None:
    headers = {} if header is None else {"range": header}
    assert get(query, **headers).window == expected


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("select=a,", "PGRST100"),
        ("select=a::", "PGRST100"),
        ("select=rel(*)", "PGRST127"),
        ("select=rel!inner(*)", "PGRST127"),
        ("select=x:rel(*)", "PGRST127"),
        ("select=...rel(*)", "PGRST127"),
        ("select=a.sum()", "PGRST123"),
        ("select=count()", "PGRST123"),
        ("a=1", "PGRST100"),
        ("a=xx.1", "PGRST100"),
        ("a=eq(some).1", "PGRST100"),
        ("a=neq(any).{1}", "PGRST100"),
        ("a=is.1", "PGRST100"),
        ("a=in.1", "PGRST100"),
        ("a=in.(1", "PGRST100"),
        ("a=in.(1)x", "PGRST100"),
        ("rel.a=eq.1", "PGRST127"),
        ("or=()", "PGRST100"),
        ("or=(a.eq.1", "PGRST100"),
        ("or=a.eq.1", "PGRST100"),
        ("order=a.up", "PGRST100"),
        ("order=a.nullslast.desc", "PGRST100"),
        ("order=rel(a)", "PGRST127"),
        ("limit=x", "PGRST100"),
        ("limit=-1", "PGRST103"),
        ("offset=-1", "PGRST100"),
        ("limit=99999999999999999999", "PGRST100"),
        ("a=eq.%ff", "PGRST100"),
        ("and=" + "(and" * 100 + "(a.eq.1)" + ")" * 100, "PGRST100"),
    ],
)
def test_what_is_wrong_in_the_query_is_said(query: str, code: str) -> None:
    with pytest.raises(ParseError) as caught:
        get(query)
    assert caught.value.code == code
    assert caught.value.message


def test_a_parse_error_points_at_the_place() -> None:
    with pytest.raises(ParseError) as caught:
        get("select=a,b(")
    assert caught.value.code == "PGRST127"
    with pytest.raises(ParseError) as caught:
        get("order=a.up")
    assert caught.value.message == '"failed to parse order parameter (a.up)" (line 1, column 5)'


def test_profiles_choose_the_schema() -> None:
    assert get(accept_profile="other").schema == "other"
    assert get(content_profile="other").schema == "public"
    assert post(b"{}", content_profile="other").schema == "other"
    with pytest.raises(ParseError) as caught:
        get(accept_profile="secret")
    assert (caught.value.status, caught.value.code) == (406, "PGRST106")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", "PGRST127"),
        ("GET", "/a/b", "PGRST125"),
        ("GET", "/rpc/a/b", "PGRST125"),
        ("GET", "/%ff", "PGRST125"),
        ("PUT", "/a", "PGRST127"),
        ("TRACE", "/a", "PGRST117"),
        ("DELETE", "/rpc/f", "PGRST101"),
    ],
)
def test_paths_and_methods_that_are_not_served(method: str, path: str, code: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_request(method, path, "", {}, b"", schemas=["public"])
    assert caught.value.code == code


def test_bodies_become_an_array_that_is_otherwise_untouched() -> None:
    one = post(b' {"a": 1.50, "b":null} ').payload
    assert one is not None
    assert (one.raw, one.keys, one.rows) == (b'[ {"a": 1.50, "b":null} ]', ("a", "b"), 1)
    many = post(b'[{"a":1},{"a":2}]').payload
    assert many is not None
    assert (many.raw, many.keys, many.rows) == (b'[{"a":1},{"a":2}]', ("a",), 2)


def test_columns_allow_rows_of_different_keys() -> None:
    with pytest.raises(ParseError, match="All object keys must match"):
        post(b'[{"a":1},{"b":2}]')
    assert post(b'[{"a":1},{"b":2}]', 'columns="a","b"').columns == ("a", "b")


@pytest.mark.parametrize("body", [b"", b"{", b"1", b"[1]", b'"x"', b"\xff", b"[" * 2000, b'{"a":NaN}'])
def test_a_table_takes_only_objects(body: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        post(body)
    assert caught.value.code == "PGRST102"


def test_a_function_takes_any_json_and_an_empty_body_as_no_arguments() -> None:
    path = "/rpc/f"
    for body, keys in [(b"", ()), (b"[1]", None), (b'{"x":1}', ("x",))]:
        payload = post(body, path=path).payload
        assert payload is not None
        assert payload.keys == keys


def test_function_arguments_of_a_read_stay_as_they_are() -> None:
    request = get("a=1&b=eq.2&select=x&apikey=k", path="/rpc/f")
    assert request.arguments == (("a", "1"), ("b", "eq.2"))
    assert request.conditions == ()


@pytest.mark.parametrize(("content_type", "code"), [("text/csv", "PGRST127"), ("image/png", "PGRST102")])
def test_bodies_that_are_not_json(content_type: str, code: str) -> None:
    with pytest.raises(ParseError) as caught:
        post(b"a,b", content_type=content_type)
    assert caught.value.code == code


def test_preferences() -> None:
    header = "return=representation, resolution=merge-duplicates,count=exact,missing=default,handling=strict,max-affected=3"
    parsed = parse_preferences(header)
    assert parsed == Preferences("representation", "exact", "merge-duplicates", "default", "strict", 3)
    assert parsed.applied() == (
        "resolution=merge-duplicates, missing=default, return=representation, count=exact, handling=strict,"
        " max-affected=3"
    )
    assert parse_preferences("tx=rollback, what=ever") == Preferences()
    with pytest.raises(ParseError) as caught:
        parse_preferences("handling=strict, what=ever")
    assert caught.value.code == "PGRST122"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Media()),
        ("application/json", Media()),
        ("text/html, */*;q=0.1", Media()),
        ("application/vnd.pgrst.object+json", Media(single=True, vendor=True)),
        ("application/vnd.pgrst.array+json;nulls=stripped", Media(strip_nulls=True, vendor=True)),
        ("application/json;q=0.5, application/vnd.pgrst.object+json", Media(single=True, vendor=True)),
        ("text/csv", Media(csv=True)),
        ("text/csv;q=0.1, application/json", Media()),
    ],
)
def test_accept(accept: str, expected: Media) -> None:
    assert parse_accept(accept) == expected


@pytest.mark.parametrize(
    "accept", ["text/xml", "application/vnd.pgrst.plan+json; options=analyze", "image/png"]
)
def test_media_types_that_cannot_be_produced(accept: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_accept(accept)
    assert (caught.value.status, caught.value.code) == (406, "PGRST107")


# -- properties ---------------------------------------------------------------------------------------

_NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(bool)
_TOKENS = [*'abcd.,():*->"\\{}!= ', "not.", "and(", "in.(", "::", "->>", "eq.", "is.null"]
_GRAMMAR = st.lists(st.sampled_from(_TOKENS)).map("".join)
_KEYS = st.sampled_from(
    ["select", "order", "limit", "offset", "and", "or", "not.or", "columns", "on_conflict", "a"]
)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "X"]),
    path=st.one_of(st.just("/items"), st.just("/rpc/f"), st.text().map(quote), st.text()),
    pairs=st.lists(
        st.tuples(st.one_of(_KEYS, _GRAMMAR, st.text()), st.one_of(_GRAMMAR, st.text())), max_size=4
    ),
    raw=st.text(),
    headers=st.dictionaries(
        st.sampled_from(["prefer", "accept", "range", "content-type", "accept-profile"]), st.text()
    ),
    body=st.one_of(st.binary(), st.just(b"[{}]")),
)
@example("GET", "/items", [("a", "in.(")], "", {}, b"")
def test_garbage_raises_only_parse_errors(
    method: str, path: str, pairs: list[tuple[str, str]], raw: str, headers: dict[str, str], body: bytes
) -> None:
    query = urlencode(pairs, errors="replace") + "&" + raw
    try:
        answer: Request | ParseError = parse_request(method, path, query, headers, body, schemas=["public"])
    except ParseError as error:
        answer = error
    if isinstance(answer, ParseError):
        assert 400 <= answer.status < 500
        assert answer.body()
    else:
        assert answer.method == method


@given(names=st.lists(_NAMES, min_size=1, max_size=4))
def test_any_column_name_can_be_quoted(names: list[str]) -> None:
    quoted = ",".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    assert get(f"select={quote(quoted, safe='')}").select == tuple(
        SelectColumn(Field(name)) for name in names
    )


@given(values=st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1))
def test_any_value_can_be_in_a_list(values: list[str]) -> None:
    quoted = ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    assert condition(urlencode({"a": f"in.({quoted})"})) == Filter(Field("a"), "in", values=tuple(values))
    assert condition(urlencode({"or": f"(a.in.({quoted}))"})) == Logic(
        "or", (Filter(Field("a"), "in", values=tuple(values)),)
    )
